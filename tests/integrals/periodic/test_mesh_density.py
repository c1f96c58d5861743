"""The density of a crystal on its mesh against PySCF's, and its electrons."""

import numpy as np
import pytest
from pyscf.pbc.dft import numint

from deeph_zero.integrals.periodic.kpoints import make_kpoints
from deeph_zero.integrals.periodic.mesh_density import mesh_density


@pytest.mark.parametrize(("name", "kmesh"), [("lih", (2, 1, 1)), ("helium", (1, 3, 1))])
def test_it_is_pyscfs_at_every_point(crystal, density, name, kmesh):
    cell = crystal(name)
    kpoints = make_kpoints(kmesh)
    kpts = kpoints.absolute(cell)
    dm = density(cell, kpts, nspin=1)[0].numpy()
    mesh = (7, 8, 9)
    found = mesh_density(cell, kpoints, dm, mesh)
    assert found.shape == mesh
    points = cell.get_uniform_grids(mesh, wrap_around=False)
    ao = numint.eval_ao_kpts(cell, points, kpts)
    wanted = sum(
        w * np.einsum("gi,ij,gj->g", a, d, a.conj()).real
        for w, a, d in zip(kpoints.weights, ao, dm, strict=True)
    )
    np.testing.assert_allclose(found.ravel(), wanted, atol=1e-6)


def test_the_mesh_holds_all_electrons(crystal, density):
    cell = crystal("aluminium", spin=1)
    kpoints = make_kpoints((2, 2, 1))
    dm = density(cell, kpoints.absolute(cell), nspin=1)[0].numpy()
    found = mesh_density(cell, kpoints, dm, (13, 13, 13))
    assert found.sum() * cell.vol / found.size == pytest.approx(cell.nelectron, abs=1e-4)


def test_a_layer_lies_in_the_middle_of_its_box(crystal, density):
    """Functions end along the third vector: density there is found whatever box they lie in."""
    cell = crystal("slab", dimension=2)
    kpoints = make_kpoints((1, 1, 1), dimension=2)
    dm = density(cell, kpoints.absolute(cell), nspin=1)[0].numpy()
    mesh = (8, 8, 24)
    found = mesh_density(cell, kpoints, dm, mesh)
    assert found.sum() * cell.vol / found.size == pytest.approx(cell.nelectron, abs=0.02)
    # the atoms lie at z = 0 and 0.19 bohr: below is the upper part of the box
    assert found[:, :, 0].max() > 50 * found[:, :, 12].max()
    assert found[:, :, -1].max() > 50 * found[:, :, 12].max()
