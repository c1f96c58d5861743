"""A geometry model's own derivatives against differences of its own Fock matrices."""

import dataclasses
import functools

import pytest
import torch
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.ks.multipoles import screened
from deeph_zero.model import Model
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared import molecule as prepared
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.settings.config import MethodConfig

BENT = "O 0 0 0.1; H 0.1 0.76 0.58; H 0.05 -0.74 0.61"
STEP = 2e-3


def made(atom, spin=0, basis="sto-3g", **changes):
    """A network with random weights that correct by some 10 mEh, and the molecule."""
    mol = gto.M(atom=atom, spin=spin, basis=basis, verbose=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        inputs = changes.pop("inputs", "geometry")
        spec = default_spec(basis_layout([mol]), "tiny", inputs=inputs)
        net = FockNetwork(dataclasses.replace(spec, **changes))
        for name, value in net.named_parameters():
            if "_out." in name:
                torch.nn.init.normal_(value, std=0.02)
    method = MethodConfig(basis=basis, grid_level=0, xc="lda,vwn").as_method()
    return Model(net.double().eval(), method), mol


def slopes(model, mol, atom, axis):
    """dH, dS and dP by four-point differences."""
    values = []
    for factor in (1, -1, 2, -2):
        coords = mol.atom_coords()
        coords[atom, axis] += factor * STEP
        moved = mol.set_geom_(coords, unit="bohr", inplace=False)
        result = model.predict(moved, certificate=False)
        values.append((result.fock, result.overlap, result.dm))
    return [
        (8 * (plus - minus) - (plus2 - minus2)) / (12 * STEP)
        for plus, minus, plus2, minus2 in zip(*values, strict=True)
    ]


@pytest.mark.parametrize(
    ("given", "bound"),
    [
        ({"atom": BENT}, False),
        ({"atom": BENT, "balanced": False, "interaction": "tensor-product"}, True),
        ({"atom": BENT, "base": "fock"}, False),
        ({"atom": "N 0 0 0; H 0.1 0.3 1.0", "spin": 2, "basis": "6-31g"}, True),
    ],
)
def test_derivatives_are_slopes_of_its_own_matrices(given, bound, monkeypatch):
    model, mol = made(**given)
    if bound:  # cut the correction's outermost levels off
        model.network.scales.correction_range.copy_(torch.tensor([0.09, 0.091]))
    # charges that are as converged as differences need
    monkeypatch.setattr(prepared, "screened", functools.partial(screened, tolerance=1e-10))
    found = model.fock_gradient(mol, atoms=[1])
    fock, overlap, dm = slopes(model, mol, 1, 1)
    assert float(fock.abs().max()) > 0.1
    torch.testing.assert_close(found.overlap[0, 1], overlap, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.fock[0, 1], fock, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.dm[0, 1], dm, atol=1e-6, rtol=0)


def test_moving_all_atoms_changes_nothing_but_the_basis():
    model, mol = made(BENT)
    found = model.fock_gradient(mol)
    assert found.atoms == (0, 1, 2)
    for total in (found.fock, found.overlap, found.dm):
        assert float(total.sum(0).abs().max()) < 1e-8


def test_the_motion_of_the_basis_is_that_of_a_refined_state():
    """At the same density: both take the same operator's elements off."""
    model, mol = made("H 0 0 0; F 0.1 0.2 0.9")
    found = model.fock_gradient(mol, atoms=[0])
    result = model.predict(mol)
    inner = found.fock - found.perturbation
    assert found.perturbation.shape == (1, 3, *result.fock.shape)
    # elements between the orbitals of the other atom have no such part
    assert float(inner[..., 1:, 1:].abs().max()) == 0
    assert float(inner[..., :1, :].abs().max()) > 0.1


def test_a_model_that_reads_a_build_is_refused():
    model, mol = made("H 0 0 0; F 0.1 0.2 0.9", inputs="physics")
    with pytest.raises(InputError, match="inputs='geometry' to differentiate"):
        model.fock_gradient(mol)
