"""Signs that a predicted matrix fills other orbitals than its base."""

import pytest
import torch
from pyscf import gto

from deeph_zero.host.reporting import SilentReporter
from deeph_zero.kohnsham import KohnSham
from deeph_zero.model import Model
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict.doubts import CLOSED, SAME_SPACE, doubts
from deeph_zero.predict.record import prediction_record, warn_hints
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.settings.config import MethodConfig
from deeph_zero.testing import WATER

METHOD = MethodConfig(basis="sto-3g", grid_level=0).as_method()
HYDROXYL = "O 0 0 0; H 0.1 0.2 0.94"


def layer(atom=WATER, spin=0):
    mol = gto.M(atom=atom, basis="sto-3g", spin=spin, verbose=0)
    ks = KohnSham.from_pyscf(mol, grid_level=0)
    return ks, ks.scf().fock


def moved(ks, fock, spin, orbital, by):
    """The matrix with one level moved, all orbitals kept."""
    all_spins = ks.to_layer(fock).clone()
    c = ks.data.ovlp @ ks.layer.orbitals(all_spins).mo_coeff[spin, :, orbital]
    all_spins[spin] += by * torch.outer(c, c)
    return ks.from_layer(all_spins)


@pytest.fixture(scope="module")
def water():
    return layer()


def test_the_base_itself_and_a_correction_of_usual_size_are_not_doubted(water):
    ks, fock = water
    assert doubts(ks, fock, fock) == ()
    noise = torch.randn(fock.shape, generator=torch.Generator().manual_seed(1), dtype=fock.dtype)
    assert doubts(ks, fock + 0.01 * (noise + noise.mT), fock) == ()


def test_another_occupied_orbital_is_said(water):
    ks, fock = water
    levels, n = ks.orbitals(fock).mo_energy, ks.nelec[0]
    gap = float(levels[n] - levels[n - 1])
    found, *_ = doubts(ks, moved(ks, fock, 0, n, -1.8 * gap), fock)
    assert found == "an occupied orbital lies to 0 % only in those of its base"


def test_a_gap_that_closes_is_said(water):
    ks, fock = water
    levels, n = ks.orbitals(fock).mo_energy, ks.nelec[0]
    gap = float(levels[n] - levels[n - 1])
    (found,) = doubts(ks, moved(ks, fock, 0, n, -(1 - CLOSED + 0.05) * gap), fock)
    assert found == f"the gap is {0.2 * gap:.3f} Eh, that of its base {gap:.3f} Eh"
    assert doubts(ks, moved(ks, fock, 0, n, -(1 - CLOSED - 0.05) * gap), fock) == ()


def test_half_a_turn_between_the_frontier_orbitals_counts_from_a_fifth_on(water):
    ks, fock = water
    found, n = ks.orbitals(fock), ks.nelec[0]
    for part, expected in ((SAME_SPACE - 0.05, 1), (SAME_SPACE + 0.05, 0)):
        cosine, sine = part**0.5, (1 - part) ** 0.5
        c = found.mo_coeff.clone()
        c[:, n - 1] = cosine * found.mo_coeff[:, n - 1] + sine * found.mo_coeff[:, n]
        c[:, n] = cosine * found.mo_coeff[:, n] - sine * found.mo_coeff[:, n - 1]
        back = ks.data.ovlp @ c
        turned = (back * found.mo_energy) @ back.mT
        assert len(doubts(ks, turned, fock)) == expected


def test_spins_are_named():
    ks, fock = layer(HYDROXYL, 1)
    levels = ks.orbitals(fock).mo_energy
    n = ks.nelec[1]
    by = -1.8 * float(levels[1, n] - levels[1, n - 1])
    found, *_ = doubts(ks, moved(ks, fock, 1, n, by), fock)
    assert found.startswith("an occupied beta orbital")


class _Lines(SilentReporter):
    def __init__(self):
        super().__init__()
        self.lines = []

    def warning(self, text):
        self.lines.append(text)


def test_a_prediction_keeps_its_base_and_its_doubts_are_one_line():
    mol = gto.M(atom=WATER, basis="sto-3g", verbose=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = FockNetwork(default_spec(basis_layout([mol]), "tiny")).eval()
    model = Model(network, METHOD)
    found = model.predict(mol, certificate=False)
    torch.testing.assert_close(found.base, found.fock, rtol=0, atol=1e-12, msg="untrained")
    assert found.doubts == ()
    assert "doubts" not in prediction_record(found)
    for values in network.node_out.parameters():
        torch.nn.init.normal_(values, std=3.0)
    found = model.predict(mol, certificate=False)
    assert found.doubts
    entry = prediction_record(found) | {"file": "a.xyz", "frame": 0}
    assert entry["doubts"] == list(found.doubts)
    reporter = _Lines()
    warn_hints([entry, {"file": "a.xyz", "frame": 1}], reporter)
    (line,) = reporter.lines
    assert line.startswith(f"a.xyz frame 0 (1 of 2 structures): {found.doubts[0]}")
    assert "refine" in line
    warn_hints([entry | {"refined_energy": -75.0}], reporter)
    assert len(reporter.lines) == 1, "an SCF finished it"
