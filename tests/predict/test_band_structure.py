"""Bands and densities of states of chains whose levels are known in closed form."""

import numpy as np
import pytest
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.protocol import Matrices, Record, Structure
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.predict import band_structure as module
from deeph_zero.predict.band_structure import band_structure, levels

CELLS = torch.tensor([[0, 0, 0], [1, 0, 0], [-1, 0, 0]])
A = 4.0


def chain(matrices, *, shells=((0,),), **facts):
    """H(R) of R = 0, 1 (and its adjoint at -1) of one atom; a leading axis of two spins."""
    home, hop = (torch.as_tensor(np.asarray(m) + 0.0) for m in matrices)
    home = home.to(hop.dtype)
    values = torch.stack([home, hop, hop.mH], -3).flatten(-3)
    pairs = torch.zeros(3, 2, dtype=torch.long)
    n = home.shape[-1]
    fock = BlockMatrix.packed(pairs, CELLS, values, (n,))
    one = torch.stack([torch.eye(n, dtype=torch.float64), *(torch.zeros(2, n, n).double())])
    overlap = BlockMatrix.packed(pairs, CELLS, one.flatten(), (n,))
    structure = Structure(
        numbers=np.array([1]), coords=np.zeros((1, 3)), lattice=np.diag([A, 400.0, 500.0]),
        pbc=np.array([True] * 3), name="chain",
    )  # fmt: skip
    return Record(structure, Matrices(shells=shells, fock=fock, overlap=overlap, facts=facts))


def one_band(e=0.1, t=-0.25, **facts):
    return chain(([[e]], [[t]]), **facts)


def two_bands(*, indirect=False, **facts):
    """s and another s without a word between them: -1 + 0.2 cos and 1 ± 0.3 cos."""
    t = 0.15 if indirect else -0.15
    home, hop = np.diag([-1.0, 1.0]), np.diag([-0.1 if not indirect else 0.1, t])
    if not indirect:
        hop[0, 0] = 0.1
    return chain((home, hop), shells=((0, 0),), **facts)


KPTS = np.array([[x, 0.1, -0.2] for x in np.linspace(-0.5, 0.5, 11)])


def test_levels_are_those_of_the_cosine():
    found = levels(one_band(), KPTS)
    assert found.shape == (1, 11, 1)
    np.testing.assert_allclose(found[0, :, 0], 0.1 - 0.5 * np.cos(2 * np.pi * KPTS[:, 0]))


def test_levels_of_many_points_are_those_of_each(monkeypatch):
    whole = levels(two_bands(), KPTS)
    monkeypatch.setattr(module, "_ELEMENTS", 8)  # two points at once
    assert torch.equal(levels(two_bands(), KPTS), whole)


def test_two_spins_have_an_axis():
    home, hop = [[[0.1]], [[0.3]]], [[[-0.25]], [[0.05]]]
    found = levels(chain((home, hop)), KPTS)
    assert found.shape == (2, 11, 1)
    np.testing.assert_allclose(found[1, :, 0], 0.3 + 0.1 * np.cos(2 * np.pi * KPTS[:, 0]))


def test_a_spinor_basis_has_levels_of_both_spins():
    """Half as many shells as functions: up and down in one matrix."""
    record = chain((np.diag([-0.2, 0.2]), np.diag([0.05, -0.05])))
    assert record.matrices.spinor
    one = BlockMatrix.packed(
        torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, 3, dtype=torch.long),
        torch.ones(1, dtype=torch.float64), (1,),
    )  # fmt: skip
    matrices = Matrices(shells=((0,),), fock=record.matrices.fock, overlap=one)
    found = levels(Record(record.structure, matrices), KPTS)
    wanted = np.cos(2 * np.pi * KPTS[:, 0]) * 0.1
    np.testing.assert_allclose(found[0], np.stack([-0.2 + wanted, 0.2 - wanted], -1), atol=1e-12)


def test_without_an_overlap_or_with_a_singular_one_there_are_none():
    record = one_band()
    matrices = Matrices(shells=((0,),), fock=record.matrices.fock)
    with pytest.raises(InputError, match="overlap"):
        levels(Record(record.structure, matrices), KPTS)
    two = two_bands()
    ones = torch.cat([torch.ones(4), torch.zeros(8)]).double()
    singular = Matrices(
        shells=((0, 0),), fock=two.matrices.fock, overlap=two.matrices.overlap.with_values(-ones)
    )
    with pytest.raises(InputError, match="overlap"):
        levels(Record(two.structure, singular), KPTS)


@pytest.mark.parametrize("indirect", [False, True])
def test_edges_of_an_insulator(indirect):
    """The valence band is highest at Γ; the conduction band is lowest there, or at X."""
    found = band_structure(two_bands(indirect=indirect, fermi=0.0), "GX", 41)
    entry = found.entry
    assert found.energies.shape == (1, 41, 2)
    assert entry["vbm"] == pytest.approx(-0.8, abs=1e-12)
    assert entry["cbm"] == pytest.approx(0.7, abs=1e-12)
    assert entry["gap"] == pytest.approx(1.5, abs=1e-12)
    assert entry["metal"] is False
    assert entry["direct"] is not indirect
    assert entry["vbm_k"][0] == 0.0
    assert entry["cbm_k"][0] == (0.5 if indirect else 0.0)
    assert [name for name, _ in entry["labels"]] == ["G", "X"]
    assert entry["labels"][1][1] == pytest.approx(np.pi / A)
    assert found.dos is None
    assert "dos_kmesh" not in entry


@pytest.mark.parametrize(
    ("fermi", "expected"),
    [
        (0.1, {"metal": True, "gap": 0.0, "vbm": None}),
        (9.0, {"metal": False, "gap": None, "cbm": None}),
        (-9.0, {"metal": False, "gap": None, "vbm": None}),
        (None, {"metal": None, "gap": None, "vbm": None}),
    ],
    ids=["metal", "full", "empty", "unknown"],
)
def test_bands_without_a_gap(fermi, expected):
    facts = {} if fermi is None else {"fermi": fermi}
    entry = band_structure(one_band(**facts), "GX", 9).entry
    assert {name: entry[name] for name in expected} == expected
    assert entry["fermi"] == fermi


def test_each_spin_of_a_fixed_moment_is_filled_to_its_own_level():
    """One electron, spin up: its band from 0 to 0.2 is full, that of spin down at 0.1 is empty."""
    matrices = [[[0.1]], [[0.1]]], [[[-0.05]], [[0.0]]]
    own = np.array([0.3, -0.4])
    found = band_structure(
        chain(matrices, fermi=-0.05, fermi_of_spins=own), "GX", 9, dos_spacing=0.3
    )
    entry = found.entry
    assert entry["vbm"] == pytest.approx(0.2, abs=1e-12)
    assert entry["cbm"] == pytest.approx(0.1, abs=1e-12)
    assert (entry["gap"], entry["metal"], entry["direct"]) == (0.0, False, None)
    assert entry["fermi"] == -0.05
    assert entry["fermi_of_spins"] == pytest.approx([0.2, 0.1])

    # spin down above it: an insulator, whose gap is between the spins; one level is enough then
    matrices = [[[0.1]], [[0.5]]], [[[-0.05]], [[0.0]]]
    entry = band_structure(chain(matrices, fermi=0.35, fermi_of_spins=own), "GX", 9).entry
    assert entry["gap"] == pytest.approx(0.3, abs=1e-12)
    assert entry["direct"] is True
    assert "fermi_of_spins" not in entry

    # a full spin and an empty one, whose bands go beyond the levels at the k-points of the SCF
    whole = np.array([np.inf, -np.inf])
    entry = band_structure(chain(matrices, fermi=0.35, fermi_of_spins=whole), "GX", 9).entry
    assert entry["gap"] == pytest.approx(0.3, abs=1e-12)
    over = [[[0.1]], [[0.1]]], [[[-0.05]], [[0.0]]]
    entry = band_structure(chain(over, fermi=0.1, fermi_of_spins=whole), "GX", 9).entry
    assert (entry["gap"], entry["metal"]) == (0.0, False)
    assert entry["fermi_of_spins"] == pytest.approx([0.2, 0.1])

    # a band that crosses its own level is a metal's
    own = np.array([0.15, -0.4])
    entry = band_structure(chain(matrices, fermi=0.35, fermi_of_spins=own), "GX", 9).entry
    assert (entry["metal"], entry["gap"]) == (True, 0.0)
    assert entry["fermi_of_spins"] == pytest.approx([0.15, 0.5])


def test_two_levels_of_a_closed_shell_are_not_taken():
    entry = band_structure(
        two_bands(fermi=0.0, fermi_of_spins=np.array([9.0, -9.0])), "GX", 9
    ).entry
    assert entry["gap"] == pytest.approx(1.5, abs=1e-12)


def test_spins_that_overlap_have_no_gap():
    home, hop = [[[-0.5]], [[-0.4]]], [[[0.2]], [[0.0]]]
    entry = band_structure(chain((home, hop), fermi=-0.3), "GX", 9).entry
    assert entry["metal"] is True


def test_a_path_of_points_that_are_not_there_is_refused():
    with pytest.raises(InputError, match="Q"):
        band_structure(one_band(), "GQ", 9)


@pytest.mark.parametrize("spins", [1, 2])
def test_a_density_of_states_integrates_to_its_levels(spins):
    """Two states per level of a closed shell, one of each spin otherwise."""
    record = one_band(fermi=0.1)
    if spins == 2:
        record = chain(([[[0.1]], [[0.2]]], [[[-0.25]], [[-0.1]]]), fermi=0.1)
    found = band_structure(record, "GX", 9, dos_spacing=0.02, width=0.02)
    energies, states = found.dos
    assert found.entry["dos_kmesh"] == [79, 1, 1]
    assert states.shape == (spins, len(energies))
    step = energies[1] - energies[0]
    np.testing.assert_allclose(states.sum(1) * step, 2.0 / spins, rtol=1e-6)
    centre = (states * energies).sum(1) / states.sum(1)
    np.testing.assert_allclose(centre, [0.1, 0.2][:spins], atol=1e-6)
    # a chain's density is highest at its edges
    middle, edge = (np.abs(energies - e).argmin() for e in (0.1, -0.4))
    assert states[0, edge] > 2 * states[0, middle]


def test_spins_that_mix_may_know_k_from_minus_k():
    """The band 0.1 + 0.5 sin k: either half of the zone has only a half of its levels."""
    home = np.diag([0.1, 5.0])
    hop = np.diag([-0.25j, 0.0])
    states = band_structure(chain((home, hop), fermi=0.1), "GX", 9, dos_spacing=0.02, width=0.02)
    energies, found = states.dos
    wanted = band_structure(one_band(fermi=0.1), "GX", 9, dos_spacing=0.02, width=0.02).dos
    middle = np.abs(energies - 0.1) < 0.55
    np.testing.assert_allclose(
        2 * found[0, middle], np.interp(energies[middle], wanted[0], wanted[1][0]), rtol=5e-3
    )


def test_levels_far_above_the_fermi_level_are_left_out():
    found = band_structure(two_bands(fermi=-0.9), "GX", 5, dos_spacing=0.3, width=0.01)
    energies, states = found.dos
    assert energies[-1] < 0.2
    assert states.sum() * (energies[1] - energies[0]) == pytest.approx(2.0, rel=1e-6)


def test_large_crystals_have_levels_near_the_fermi_level_and_no_density(monkeypatch):
    record = two_bands(fermi=0.0)
    exact = band_structure(record, "GX", 3)
    monkeypatch.setattr(module, "LARGE", 1)
    found = band_structure(record, "GX", 3)
    np.testing.assert_allclose(found.energies, exact.energies, atol=1e-8)
    assert found.entry["gap"] == pytest.approx(exact.entry["gap"], abs=1e-8)
    with pytest.raises(InputError, match="expected at most 1 orbitals for a density of states"):
        band_structure(record, "GX", 3, dos_spacing=0.1)
    # without a Fermi level nobody knows which ones are near
    assert band_structure(two_bands(), "GX", 3).energies.shape == (1, 3, 2)


def test_bands_that_are_not_everywhere_are_an_error(monkeypatch):
    """One level is looked for, another one at Γ than at X."""
    home, hop = np.diag([-0.5, 0.5]), np.diag([0.5, 0.5])
    record = chain((home, hop), shells=((0, 0),), fermi=0.5)
    monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(module, "NEAR", 1)
    with pytest.raises(ComputationError, match="that are there at all of them; choose a shorter"):
        band_structure(record, "GX", 3)
