"""Blocks (i, j, R) of a crystal: their Bloch sums are PySCF's matrices at any k."""

import numpy as np
import pytest
import torch
from pyscf.pbc import gto
from pyscf.pbc.dft import numint
from pyscf.pbc.gto.pseudo import pp_int

from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.image_atoms import Images
from deeph_zero.integrals.periodic.real_space import RealSpaceMatrices, boxes
from deeph_zero.nn.neighbours import neighbours

K = np.array([[0.17, -0.31, 0.42], [0.0, 0.0, 0.0]])
FAR = 19.0
"""Beyond it no two orbitals of these cells overlap by 1e-8."""


def silicon_hydride(**settings):
    """Two unlike atoms in a triclinic cell: one, two and no projectors per channel."""
    cell = gto.Cell()
    cell.a, cell.unit, cell.verbose = [[4.9, 0.2, 0], [1.1, 5.3, -0.4], [0.3, 0.8, 6.1]], "B", 0
    cell.atom = "Si 0.2 0.1 0; H 2.9 2.2 1.7"
    cell.basis = {
        "Si": [[0, [1.1, 0.4], [0.35, 0.7]], [1, [0.5, 1.0]], [2, [0.6, 1.0]]],
        "H": [[0, [0.45, 1.0]]],
    }
    cell.pseudo, cell.mesh, cell.precision, cell.spin = "gth-pbe", [12, 13, 15], 1e-11, 1
    for key, value in settings.items():
        setattr(cell, key, value)
    return cell.build()


def matrices(cell, cutoff):
    near = neighbours(
        torch.from_numpy(cell.atom_coords()), cutoff, torch.from_numpy(cell.lattice_vectors())
    )
    offsets = cell.aoslice_by_atom()
    sizes = (offsets[:, 3] - offsets[:, 2]).tolist()
    return RealSpaceMatrices(cell, tuple(cell.mesh), near.pattern(sizes))


@pytest.fixture(scope="module")
def cell():
    return silicon_hydride()


@pytest.fixture(scope="module")
def far(cell):
    return matrices(cell, FAR)


def at_k(matrix):
    return matrix.at_k(torch.from_numpy(K)).numpy()


@pytest.mark.reference
def test_two_centre_integrals_and_projectors_are_pyscfs(cell, far):
    kpts = cell.get_abs_kpts(K)
    found = {
        "ovlp": (far.overlap(), cell.pbc_intor("int1e_ovlp", kpts=kpts)),
        "kin": (far.kinetic(), cell.pbc_intor("int1e_kin", kpts=kpts)),
        "nonlocal": (far.nonlocal_potential(), pp_int.get_pp_nl(cell, kpts)),
    }
    for name, (own, theirs) in found.items():
        np.testing.assert_allclose(at_k(own), np.array(theirs), atol=1e-7, err_msg=name)
        assert np.abs(np.array(theirs)).max() > 0.1
        assert own.asymmetry() < 1e-12


@pytest.mark.reference
@pytest.mark.parametrize("nvar", [1, 4, 5])
def test_potentials_on_the_grid_are_pyscfs_integrals(nvar, cell, far):
    """With a potential for the density, its gradient and τ, of two spins."""
    coords = cell.get_uniform_grids(cell.mesh)
    waves = coords @ cell.reciprocal_vectors().T
    rows = np.stack(
        [[np.cos(waves[:, 0] + v), np.sin(waves[:, 1] - waves[:, 2] * v)] for v in range(nvar)], 1
    )
    found = far.potential(torch.from_numpy(rows))
    ao = np.array(numint.eval_ao_kpts(cell, coords, cell.get_abs_kpts(K), deriv=1))
    weight = cell.vol / len(coords)
    for s in range(2):
        half = np.einsum("kgi,g,kgj->kij", ao[:, 0].conj(), 0.5 * rows[s, 0], ao[:, 0])
        for x in range(1, min(nvar, 4)):
            half += np.einsum("kgi,g,kgj->kij", ao[:, 0].conj(), rows[s, x], ao[:, x])
            if nvar == 5:
                half += np.einsum("kgi,g,kgj->kij", ao[:, x].conj(), 0.25 * rows[s, 4], ao[:, x])
        expected = weight * (half + half.conj().swapaxes(1, 2))
        np.testing.assert_allclose(at_k(found)[s], expected, atol=2e-7)
    assert found.asymmetry() == 0.0
    assert float((found.values[0] - found.values[1]).abs().max()) > 0.1


def test_a_smaller_set_of_blocks_has_the_same_elements(far):
    near = matrices(far.cell, 6.0)
    places = far.pattern.find(near.pattern.pairs, near.pattern.cells)
    assert (places >= 0).all()
    assert len(near.pattern) < len(far.pattern) / 5
    for name in ("overlap", "kinetic", "nonlocal_potential"):
        wide = getattr(far, name)().select(places).values
        torch.testing.assert_close(getattr(near, name)().values, wide, rtol=0, atol=1e-12)


def test_a_supercell_has_the_blocks_of_its_cell():
    """Each of its atoms as the first: potentials, projectors and overlaps know no cell."""
    small = silicon_hydride()
    large = silicon_hydride(
        a=(np.diag([2, 1, 1]) @ small.lattice_vectors()).tolist(),
        atom=[
            (small.atom_symbol(k), small.atom_coord(k) + n * small.lattice_vectors()[0])
            for n in (0, 1)
            for k in range(2)
        ],
        mesh=[24, 13, 15],
        spin=0,
    )
    one, two = matrices(small, 7.0), matrices(large, 7.0)
    coords = small.get_uniform_grids(small.mesh)
    wave = np.cos(coords @ small.reciprocal_vectors()[1] + 0.3).reshape(1, 1, 12, -1)
    rows = torch.from_numpy(wave)
    doubled = torch.cat([rows, rows], 2).flatten(2)
    pairs = two.pattern.pairs
    shift = (2 * two.pattern.cells[:, 0] + pairs[:, 1] // 2 - pairs[:, 0] // 2)[:, None]
    cells = torch.cat([shift, two.pattern.cells[:, 1:]], 1)
    places = one.pattern.find(pairs % 2, cells)
    assert (places >= 0).all()
    assert len(places) == 2 * len(one.pattern)
    for of_one, of_two in (
        (one.potential(rows.flatten(2)), two.potential(doubled)),
        (one.nonlocal_potential(), two.nonlocal_potential()),
        (one.overlap(), two.overlap()),
    ):
        expected = of_one.select(places).values
        torch.testing.assert_close(of_two.values, expected, rtol=0, atol=1e-8)
        assert float(expected.abs().max()) > 0.1


def test_boxes_are_the_whole_grid_once():
    lattice = np.array([[4.0, 0.1, 0], [1.0, 7.0, 0], [0, 0.5, 9.0]])
    found = list(boxes((5, 14, 27), lattice))
    points = np.concatenate([box.points for box in found])
    assert sorted(points.tolist()) == list(range(5 * 14 * 27))
    places = np.concatenate([box.coords for box in found])[points.argsort()] @ np.linalg.inv(
        lattice
    )
    np.testing.assert_allclose(places[14 * 27 + 3 * 27 + 2], [1 / 5, 3 / 14, 2 / 27])
    assert max(box.radius for box in found) < 3.5


def test_images_are_those_that_reach(cell):
    images = Images(cell, 1e-8)
    centre = np.array([0.3, -2.0, 11.0])
    found = images.near(centre, 1.0)
    assert len({(a, *c) for a, c in zip(found.atoms, found.cells.tolist(), strict=True)}) == len(
        found.atoms
    )
    more = images.near(centre, 1.0, more=4.0)
    values = np.abs(more.mole.eval_gto("GTOval_sph", centre[None]))[0]
    largest = np.maximum.reduceat(values, more.sizes.cumsum() - more.sizes)
    kept = {(a, *c) for a, c in zip(found.atoms, found.cells.tolist(), strict=True)}
    reached = {
        (a, *c)
        for a, c, x in zip(more.atoms, more.cells.tolist(), largest, strict=True)
        if x > 1e-8
    }
    assert reached
    assert reached <= kept
    assert len(kept) < len(more.atoms)


def test_effective_core_potentials_are_refused():
    with_ecp = silicon_hydride(ecp={"Si": "lanl2dz"}, pseudo={"H": "gth-pbe"})
    with pytest.raises(InputError, match="expected GTH pseudopotentials, got effective core"):
        matrices(with_ecp, 5.0)
