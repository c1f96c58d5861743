"""Numbers of the error table from matrices alone, against NumPy and SciPy."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
import torch
from pyscf import gto

from deeph_zero.data.labels import Label
from deeph_zero.integrals.mole import shell_ls
from deeph_zero.jobs.compare import (
    ao_blocks,
    compare,
    covers,
    levels,
    orbital_energies,
    subspace_distance,
)
from deeph_zero.kohnsham import KohnSham
from deeph_zero.molecule import Molecule
from deeph_zero.predict.single import assemble


def test_levels_of_one_and_two_spins_and_what_covers_them():
    energy, filled = torch.tensor([-2.0, -1.0, 0.5, 0.75]), torch.tensor([2.0, 2.0, 0.0, 0.0])
    assert levels(energy, filled) == {"homo": -1.0, "lumo": 0.5, "gap": 1.5}
    two = levels(torch.stack([energy, energy]), torch.tensor([[1.0] * 4, [1.0, 0, 0, 0]]))
    assert two == {"homo": [0.75, -2.0], "lumo": [None, -1.0], "gap": [None, 1.0]}
    assert covers([[0.7, 0.8], [-2.5, -1.5]], two["homo"])
    assert not covers([[0.7, 0.8], [-1.9, -1.5]], two["homo"])
    assert covers([None, [-1.5, -0.5]], two["lumo"])
    assert covers([-1.5, -1.0], -1.0 + 1e-10), "a reference ends at its tolerance"
    assert not covers([-1.5, -1.0], -1.0 + 1e-8)
    assert covers(None, -1.0)
    assert covers([0.0, 1.0], None)


def test_errors_of_levels_are_pooled_over_spins():
    reference = torch.tensor([[-2.0, -1.0, 1.0], [-1.9, 0.5, 1.1]], dtype=torch.float64)
    occ = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    off = torch.tensor([[0.1, -0.2, 0.3], [-0.4, 0.5, 0.0]], dtype=torch.float64)
    found = orbital_energies(reference + off, reference, occ)
    assert found["mo_energy_mae"] == pytest.approx(1.5 / 6)
    assert found["occupied_energy_mae"] == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    assert found["homo_mae"] == pytest.approx((0.2 + 0.4) / 2)
    assert found["lumo_mae"] == pytest.approx((0.3 + 0.5) / 2)
    assert found["gap_mae"] == pytest.approx((0.5 + 0.9) / 2)


def test_levels_that_are_not_there_have_no_error():
    """All orbitals filled, and none."""
    energy = torch.tensor([-1.0, -0.5], dtype=torch.float64)
    full = orbital_energies(energy + 0.1, energy, torch.tensor([2.0, 2.0]))
    assert (full["lumo_mae"], full["gap_mae"]) == (None, None)
    assert full["homo_mae"] == pytest.approx(0.1)
    bare = orbital_energies(energy + 0.1, energy, torch.zeros(2))
    assert (bare["homo_mae"], bare["occupied_energy_mae"]) == (None, None)


@pytest.mark.parametrize("spins", [1, 2])
def test_blocks_by_element_and_momentum_up_to_f(spins):
    """Every element counts once in each table; pairs are named in one order."""
    shells, symbols = [(0, 1), (0,), (3, 0)], ["O", "H", "Fe"]
    nao = 4 + 1 + 8
    delta = np.random.default_rng(3).normal(size=(spins, nao, nao))
    delta = delta + delta.transpose(0, 2, 1)
    found = ao_blocks(delta if spins == 2 else delta[0], symbols, shells)
    size = np.abs(delta).mean(0)
    atom = np.repeat([0, 1, 2], [4, 1, 8])
    kind = np.array(["s", *"ppp", "s", *"fffffff", "s"])
    assert set(found["elements"]) == {"O", "H", "Fe", "H-O", "Fe-O", "Fe-H"}
    for name, value in found["elements"].items():
        a, b = (name.split("-") * 2)[:2]
        i, j = symbols.index(a), symbols.index(b)
        assert value == pytest.approx(size[np.ix_(atom == i, atom == j)].mean()), name
    assert set(found["shells"]) == {"s-s", "s-p", "p-p", "s-f", "p-f", "f-f"}
    for name, value in found["shells"].items():
        a, b = name.split("-")
        assert value == pytest.approx(size[np.ix_(kind == a, kind == b)].mean()), name


@pytest.mark.parametrize("nocc", [[3], [3, 1]], ids=["closed", "open"])
def test_distance_of_subspaces_is_the_sine_of_their_angles(nocc):
    rng = np.random.default_rng(7)
    root = rng.normal(size=(6, 6))
    ovlp = root @ root.T + 6 * np.eye(6)
    half = scipy.linalg.sqrtm(ovlp).real
    dms, sines = [], []
    for n in nocc:
        pair = [np.linalg.qr(rng.normal(size=(6, 6)))[0][:, :n] for _ in range(2)]
        sines.append(np.sin(scipy.linalg.subspace_angles(*pair)))
        c = [np.linalg.solve(half, q) for q in pair]
        dms.append([x @ x.T for x in c])
    one, other = (torch.from_numpy(np.array([d[k] for d in dms])) for k in range(2))
    if len(nocc) == 1:
        one, other = 2 * one[0], 2 * other[0]
    found = subspace_distance(one, other, torch.from_numpy(ovlp))
    assert found == pytest.approx(np.sqrt((np.concatenate(sines) ** 2).mean()), rel=1e-7)
    assert subspace_distance(one, one, torch.from_numpy(ovlp)) == 0.0


@pytest.fixture(scope="module")
def water():
    """A prediction that is off in a known way, the label it is compared with, and the layer."""
    coords = np.array([[0, 0, 0.2], [0, 1.43, 1.1], [0.1, -1.4, 1.15]])
    molecule = Molecule(numbers=np.array([8, 1, 1]), coords=coords)
    atoms = list(zip("OHH", coords, strict=True))
    mol = gto.M(atom=atoms, unit="bohr", basis="sto-3g", verbose=0)
    ks = KohnSham.from_pyscf(mol, xc="lda,vwn", grid_level=0)
    done = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-8)
    label = Label(
        fock=done.fock, dm=done.dm, energy=done.energy, mo_energy=done.mo_energy, mo_occ=done.mo_occ
    )
    fock = done.fock + 0.01 * ks.data.ovlp  # every level up, the same orbitals
    found = assemble(molecule, ks, fock, ks.density(fock), None, certificate=True, coupled=True)
    return found, label, ks, shell_ls(mol)


def test_a_shift_is_an_error_of_levels_and_of_no_density(water):
    found, label, ks, shells = water
    row = compare(found, label, ks, shells)
    assert abs(row["energy_error"]) < 1e-9
    assert row["subspace_distance"] < 1e-6
    assert row["dipole_error"] < 1e-5
    for name in ("mo_energy_mae", "homo_mae", "lumo_mae"):
        assert row["fock"][name] == pytest.approx(0.01, rel=1e-6)
        assert row["rebuilt"][name] < 1e-6
    assert row["fock"]["gap_mae"] < 1e-9
    assert row["fock"]["mae"] == pytest.approx(0.01 * float(ks.data.ovlp.abs().mean()), rel=1e-6)
    assert row["fock"]["blocks"]["occ-virt"] < 1e-9
    assert row["fock"]["elements"]["O"] > 0
    assert "elements" not in row["rebuilt"]
    assert abs(row["estimates"]["homo_error"]) < 1e-6
    assert "covered" not in row


def test_intervals_are_covered_or_not(water):
    found, label, ks, shells = water
    homo = float(label.mo_energy[4])
    around = {name: [-1e3, 1e3] for name in ("energy", "lumo", "gap")}
    row = compare(
        dataclasses.replace(found, intervals=around | {"homo": [homo + 0.1, homo + 0.2]}),
        label, ks, shells,
    )  # fmt: skip
    assert row["covered"] == {"energy": True, "homo": False, "lumo": True, "gap": True}


def test_a_reference_that_stopped_early_is_not_held_against_an_interval(water):
    """Its levels are known to a part of its gradient, its energy far better."""
    found, label, ks, shells = water
    homo, turn = float(label.mo_energy[4]), torch.zeros_like(label.fock)
    turn[0, 3] = turn[3, 0] = 1e-5
    early = dataclasses.replace(label, fock=label.fock + turn)
    gradient = float(torch.linalg.vector_norm(ks.commutator(early.fock, label.dm))) / 2**0.5
    assert gradient > 1e-6
    exact = float(ks.orbitals(early.fock).mo_energy[4])
    for part, inside in ((0.05, True), (0.2, False)):
        low = exact + part * gradient
        given = dict.fromkeys(("energy", "lumo", "gap")) | {"homo": [low, low + 1]}
        row = compare(dataclasses.replace(found, intervals=given), early, ks, shells)
        assert row["covered"]["homo"] is inside
    low = label.energy + 0.05 * gradient
    given = dict.fromkeys(("homo", "lumo", "gap")) | {"energy": [low, low + 1]}
    row = compare(dataclasses.replace(found, intervals=given), early, ks, shells)
    assert row["covered"]["energy"] is False
    assert abs(exact - homo) < 1e-4


def test_of_two_spins_the_larger_difference_counts(water):
    found, label, ks, shells = water
    certificate = dataclasses.replace(
        found.certificate, homo_estimate=None, lumo_estimate=0.5, gap_estimate=None
    )
    row = compare(dataclasses.replace(found, certificate=certificate), label, ks, shells)
    assert row["estimates"]["homo_error"] is None
    assert row["estimates"]["lumo_error"] == pytest.approx(0.5 - float(label.mo_energy[5]))
