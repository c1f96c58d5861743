"""Supercells and displaced copies of crystals: what stays, what grows, and how far atoms move."""

import dataclasses
import itertools

import numpy as np
import pytest

from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig
from deeph_zero.train.crystal_samples import displaced, geometries, supercell
from deeph_zero.units import BOHR_IN_ANGSTROM

LATTICE = np.array([[5.0, 0.2, 0], [0.1, 6.0, 0], [0, 0.3, 7.0]])


def crystal(frame=0, *, layer=False, **changed):
    one = Molecule(
        numbers=np.array([3, 1]),
        coords=np.array([[0.1, 0.2, 0.3], [2.0, 3.0, 1.0 + 0.1 * frame]]),
        lattice=LATTICE,
        pbc=(True, True, not layer),
        file="c.xyz",
        frame=frame,
    )
    return dataclasses.replace(one, **changed)


def config(**values):
    section = {"kmesh": (4, 3, 2)} | values.pop("crystal", {})
    return FitConfig.parse({"crystal": section} | values)


def distances(molecule):
    """Of all atoms to each other and their nearest images, sorted."""
    cells = np.array(list(itertools.product((-1, 0, 1), repeat=3))) @ molecule.lattice
    apart = molecule.coords[:, None, None] - molecule.coords[None, :, None] - cells
    return np.sort(np.linalg.norm(apart, axis=-1).ravel())


@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 1, 1), (2, 3, 2)])
def test_a_supercell_is_the_same_crystal(counts):
    one, n = crystal(charge=1, spin=1, moments=(0.5, -0.5)), int(np.prod(counts))
    found = supercell(one, counts)
    assert found.natm == 2 * n
    assert np.linalg.det(found.lattice) == pytest.approx(n * np.linalg.det(LATTICE))
    assert (found.charge, found.spin, found.moments) == (n, n, (0.5, -0.5) * n)
    # every atom is a lattice vector away from its own one
    back = (found.coords - np.tile(one.coords, (n, 1))) @ np.linalg.inv(LATTICE)
    np.testing.assert_allclose(back, back.round(), atol=1e-12)
    assert len({tuple(row) for row in back[::2].round().astype(int)}) == n
    near = distances(found)[2 * n :]
    assert near[0] == pytest.approx(distances(one)[2], abs=1e-12)


def test_without_strain_the_cell_stays_and_atoms_move_as_asked():
    rng = np.random.default_rng(0)
    asked = config(displace=0.05, crystal={"strain": 0.0})
    moves = []
    for _ in range(200):
        found = displaced(crystal(), asked, rng)
        np.testing.assert_array_equal(found.lattice, LATTICE)
        moves.append(found.coords - crystal().coords)
    spread = np.std(moves) * BOHR_IN_ANGSTROM
    assert spread == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("layer", [False, True])
def test_strain_is_symmetric_and_moves_atoms_with_the_cell(layer):
    rng = np.random.default_rng(1)
    one = crystal(layer=layer)
    found = displaced(one, config(displace=1e-9, crystal={"strain": 0.02}), rng)
    strain = np.linalg.solve(LATTICE, found.lattice) - np.eye(3)
    np.testing.assert_allclose(strain, strain.T, atol=1e-12)
    assert 1e-3 < np.abs(strain[:2, :2]).max() < 0.1
    np.testing.assert_allclose(found.coords, one.coords @ (np.eye(3) + strain), atol=1e-7)
    out_of_plane = np.abs(np.concatenate([strain[2], strain[:, 2]])).max()
    assert bool(out_of_plane < 1e-15) is layer
    assert (found.numbers.tolist(), found.pbc, found.file) == ([3, 1], one.pbc, "c.xyz")


def test_frames_come_first_and_copies_behind_them():
    frames = [crystal(k) for k in range(3)]
    found = geometries(config(samples=2), frames)
    assert [g.frame for g in found] == [0, 1, 2] + [None] * 6
    assert [g.molecule for g in found[:3]] == frames
    assert [g.molecule.frame for g in found[3:]] == [0, 0, 1, 1, 2, 2]
    assert len({g.molecule.coords.tobytes() for g in found}) == 9
    assert {g.method.crystal.kmesh for g in found} == {(4, 3, 2)}
    assert len(geometries(config(samples=0), frames)) == 3


def test_the_seed_says_which_copies():
    frames = [crystal()]
    one, same, other = (
        geometries(config(samples=2, runtime={"seed": seed}), frames) for seed in (1, 1, 2)
    )
    for a, b, c in zip(one[1:], same[1:], other[1:], strict=True):
        np.testing.assert_array_equal(a.molecule.coords, b.molecule.coords)
        assert np.abs(a.molecule.coords - c.molecule.coords).max() > 1e-4


def test_larger_copies_have_fewer_kpoints_as_dense():
    found = geometries(config(samples=1, crystal={"supercell": (2, 2, 3)}), [crystal()])
    assert [g.molecule.natm for g in found] == [2, 24]
    assert [g.method.crystal.kmesh for g in found] == [(4, 3, 2), (2, 2, 1)]


def test_kpoints_by_their_spacing_follow_the_copys_own_cell():
    asked = config(samples=1, crystal={"kmesh": None, "kspacing": 0.4, "supercell": (2, 1, 1)})
    first, copy = geometries(asked, [crystal()])
    assert copy.method.crystal.kmesh[0] < first.method.crystal.kmesh[0]
    assert copy.method.crystal.kmesh[1:] == first.method.crystal.kmesh[1:]
