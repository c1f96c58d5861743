"""Images of a crystal's atoms: which ones reach a place, their orbitals, and their blocks."""

import itertools

import numpy as np
import pytest
import torch
from pyscf import gto as molecular
from pyscf.pbc import gto

from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.integrals.periodic.image_atoms import Gatherer, Images

CELLS = np.array(list(itertools.product(range(-6, 7), repeat=3)))


@pytest.fixture(scope="module")
def cell():
    cell = gto.Cell()
    cell.a, cell.unit, cell.verbose = [[4.9, 0.2, 0], [1.1, 5.3, -0.4], [0.3, 0.8, 6.1]], "B", 0
    cell.atom = "C 0.2 0.1 0; GHOST-H 2.0 1.0 3.0; H 2.9 2.2 1.7; C 3.1 2.9 4.0"
    cell.basis = {
        "C": [[0, [1.1, 0.4], [0.6, 0.7]], [1, [0.8, 1.0]], [2, [0.9, 1.0]]],
        "H": [[0, [0.7, 1.0]]],
        "GHOST-H": [[1, [0.9, 1.0]]],
    }
    cell.pseudo, cell.mesh, cell.spin = "gth-pbe", [9, 9, 9], 1
    return cell.build()


@pytest.fixture(scope="module")
def images(cell):
    return Images(cell, 1e-4)


POINTS = np.array([1.5, 1.0, 2.0]) + np.random.default_rng(0).normal(size=(11, 3))


def test_kinds_and_sizes(cell, images):
    assert images.sizes.tolist() == [9, 3, 1, 9]
    assert len(images.bases) == 3
    assert images.kinds[0] == images.kinds[3]
    assert len(set(images.kinds)) == 3
    assert [b.nao for b in images.bases] == [
        images.sizes[list(images.kinds).index(kind)] for kind in range(3)
    ]
    assert images.reach.shape == (cell.natm,)


def test_beyond_their_reach_orbitals_are_negligible(cell, images):
    """And not far inside of it some are not: the reach is no guess."""
    directions = np.random.default_rng(1).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    for atom in range(cell.natm):
        own = images.some(np.array([atom]), np.zeros((1, 3), dtype=int))
        for distance, beyond in ((images.reach[atom], True), (images.reach[atom] - 0.7, False)):
            found = own.orbitals(own.coords + distance * directions, 1).abs().max()
            assert (float(found) <= 1e-4) is beyond


@pytest.mark.parametrize(("centre", "radius"), [((1.5, 1.0, 2.0), 1.0), ((-9.0, 4.0, 8.0), 0.3)])
def test_all_atoms_that_reach_a_sphere_are_found(cell, images, centre, radius):
    found = images.near(np.array(centre), radius)
    everyone = cell.atom_coords() + (CELLS @ cell.lattice_vectors())[:, None]
    distance = np.linalg.norm(everyone - centre, axis=-1)
    which, atoms = np.nonzero(distance < images.reach + radius)
    wanted = {(int(a), *map(int, CELLS[w])) for w, a in zip(which, atoms, strict=True)}
    got = [(int(a), *map(int, c)) for a, c in zip(found.atoms, found.cells, strict=True)]
    assert len(got) == len(set(got))
    assert set(got) == wanted
    assert len(wanted) >= 10
    # those of one kind follow each other
    assert (np.diff(images.kinds[found.atoms]) >= 0).all()
    np.testing.assert_allclose(
        found.coords, cell.atom_coords()[found.atoms] + found.cells @ cell.lattice_vectors()
    )


def test_atoms_that_reach_a_box_are_found(images):
    """Those of the sphere around it whose distance from the box itself is within their reach."""
    low, high = np.array([0.5, -1.0, 2.0]), np.array([0.7, 4.0, 2.1])
    found = images.near_box(low, high)
    sphere = images.near(0.5 * (low + high), 0.5 * float(np.linalg.norm(high - low)))
    inside = np.linspace(low, high, 30)
    apart = np.linalg.norm(
        sphere.coords[:, None] - np.clip(sphere.coords[:, None], low, high), axis=-1
    )
    wanted = apart[:, 0] < images.reach[sphere.atoms]
    np.testing.assert_array_equal(found.coords, sphere.coords[wanted])
    assert 10 < len(found.atoms) < len(sphere.atoms)
    left = sphere.take(~wanted)
    assert float(left.orbitals(inside, 1).abs().max()) <= 1e-4


def test_other_reaches_and_more_of_them(cell, images):
    centre = np.array([1.0, 2.0, 3.0])
    none = images.near(centre, 0.0, reach=np.full(cell.natm, -1e9))
    assert len(none.atoms) == 0
    assert none.nao == 0
    usual, wider = (images.near(centre, 0.5, more=more) for more in (0.0, 2.0))
    assert len(wider.atoms) > len(usual.atoms)
    same = images.near(centre, 0.5, reach=images.reach + 2.0)
    assert sorted(zip(same.atoms, map(tuple, same.cells), strict=True)) == sorted(
        zip(wider.atoms, map(tuple, wider.cells), strict=True)
    )


@pytest.mark.parametrize("deriv", [0, 1])
def test_orbitals_are_pyscfs(images, deriv):
    near = images.near(np.array([1.5, 1.0, 2.0]), 1.0)
    found = near.orbitals(POINTS, deriv)
    name = "GTOval_sph_deriv1" if deriv else "GTOval_sph"
    wanted = near.mole.eval_gto(name, POINTS).reshape(-1, len(POINTS), near.nao)
    np.testing.assert_allclose(found, wanted.transpose(0, 2, 1), atol=1e-12)
    part = near.take(np.arange(0, len(near.atoms), 2))
    np.testing.assert_allclose(
        part.orbitals(POINTS, 0)[0].T, part.mole.eval_gto("GTOval_sph", POINTS), atol=1e-12
    )


def test_sums_along_directions_are_those_of_the_gradients(images):
    near = images.near(np.array([1.5, 1.0, 2.0]), 1.0)
    rows = torch.from_numpy(np.random.default_rng(2).normal(size=(3, 4, len(POINTS))))
    values, sums = near.orbitals_along(POINTS, rows)
    whole = near.orbitals(POINTS, 1)
    torch.testing.assert_close(values, whole[0], rtol=0, atol=1e-12)
    wanted = torch.einsum("scp,cop->sop", rows, whole)
    torch.testing.assert_close(sums, wanted, rtol=0, atol=1e-11)


def test_the_molecule_of_images_has_their_integrals(cell, images):
    """⟨C at home| |H two cells away⟩ as a molecule of two atoms has it."""
    atoms, cells = np.array([0, 2]), np.array([[0, 0, 0], [-1, 0, 1]])
    mole = images.some(atoms, cells).mole
    places = cell.atom_coords()[atoms] + cells @ cell.lattice_vectors()
    same = molecular.M(
        atom=list(zip("CH", places, strict=True)), unit="B", basis=cell.basis, spin=1, verbose=0
    )
    np.testing.assert_allclose(mole.intor("int1e_ovlp"), same.intor("int1e_ovlp"), atol=1e-13)
    np.testing.assert_allclose(mole.intor("int1e_kin"), same.intor("int1e_kin"), atol=1e-13)


def test_no_overlap_beyond_the_distance_counts(images):
    reach = images.overlap_reach(1e-5)
    np.testing.assert_array_equal(reach, reach.T)
    rng = np.random.default_rng(3)
    for one, other in itertools.combinations_with_replacement(range(3), 2):
        atoms = np.array([list(images.kinds).index(k) for k in (one, other)])
        largest = []
        for distance in (reach[one, other] + 0.1, reach[one, other] - 1.0):
            away = rng.normal(size=3)
            away *= distance / np.linalg.norm(away)
            pair = images.some(atoms, np.zeros((2, 3), dtype=int))
            pair.coords[:] = [np.zeros(3), away]
            n = images.sizes[atoms[0]]
            largest.append(np.abs(pair.mole.intor("int1e_ovlp")[:n, n:]).max())
        assert largest[0] < 2e-5  # another direction than the one that is looked at
        assert largest[1] > 1e-6


def test_products_go_to_their_blocks(images):
    pairs, cells = [], []
    for i, j in itertools.product(range(4), repeat=2):
        for where in CELLS[np.abs(CELLS).max(1) <= 1]:
            if (i + j + int(where.sum())) % 3:  # some pairs have no block
                pairs.append((i, j))
                cells.append(where)
    pattern = BlockPattern(torch.tensor(pairs), torch.tensor(np.array(cells)), (9, 3, 1, 9))
    near = images.near(np.array([1.5, 1.0, 2.0]), 0.2, reach=np.full(4, 4.0))
    products = torch.from_numpy(np.random.default_rng(4).normal(size=(near.nao,) * 2))
    total = torch.zeros(int(pattern.offsets[-1]), dtype=torch.float64)
    Gatherer(pattern, near).add(total, products)
    starts = np.cumsum([0, *near.sizes])
    wanted = {}
    for a, b in itertools.product(range(len(near.atoms)), repeat=2):
        key = (near.atoms[a], near.atoms[b], *(near.cells[b] - near.cells[a]))
        block = products[starts[a] : starts[a + 1], starts[b] : starts[b + 1]]
        wanted[key] = wanted.get(key, 0) + block
    for k, (pair, where) in enumerate(zip(pairs, cells, strict=True)):
        part = total[pattern.offsets[k] : pattern.offsets[k + 1]]
        block = wanted.get((*pair, *where))
        if block is None:
            assert not part.any()
        else:
            torch.testing.assert_close(part, block.flatten(), rtol=0, atol=1e-12)
