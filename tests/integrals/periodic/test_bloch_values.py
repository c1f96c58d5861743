"""AO values at k-points: PySCF's Bloch sums, in blocks that are kept or made again."""

import numpy as np
import pytest
import torch
from pyscf.pbc.dft import numint

from deeph_zero.integrals.periodic import bloch_values
from deeph_zero.integrals.periodic.bloch_values import BlochValues
from deeph_zero.integrals.periodic.kpoints import make_kpoints
from deeph_zero.integrals.periodic.torus_values import TorusValues, half_mesh
from deeph_zero.ks.periodic.grid import BlochGrid

COUNTS = (3, 1, 2)


@pytest.fixture(scope="module")
def cell(crystal):
    return crystal("lih", mesh=[5, 4, 5])


def gathered(grid, deriv):
    """All values, [nk, component, nao, ngrids], complex."""
    out = torch.zeros(grid.nk, (1, 4)[deriv], grid.nao, grid.ngrids, dtype=torch.complex128)
    for b in range(grid.n_blocks):
        block = grid.block(b)
        for group in block.groups:
            out[group.index[:, None], ..., block.points] += group.ao.to(out.dtype)[:, None]
    return out


@pytest.mark.parametrize("deriv", [0, 1])
def test_values_are_pyscfs_in_every_block(cell, deriv, monkeypatch):
    kpoints = make_kpoints(COUNTS)
    points = cell.get_uniform_grids(cell.mesh)
    # 256 points are the least of a block: a second grid behind the first makes two
    points = np.concatenate([points, points + 0.3, points - 0.2])
    monkeypatch.setattr(bloch_values, "BLOCK_MB", 1e-9)
    grid = BlochValues(cell, kpoints, points, deriv=deriv, memory_mb=0.0)
    assert isinstance(grid, BlochGrid)
    assert grid.n_blocks == 2
    kinds = [group.ao.is_complex() for group in grid.block(0).groups]
    assert kinds == [False, True]  # where -k is k values are real
    wanted = numint.eval_ao_kpts(cell, points, kpoints.absolute(cell), deriv=deriv)
    wanted = np.stack([w.reshape((1, 4)[deriv], len(points), -1) for w in wanted])
    # which images PySCF leaves out depends on the points of a call
    np.testing.assert_allclose(gathered(grid, deriv), wanted.swapaxes(2, 3), atol=1e-9)


def test_what_fits_is_kept(cell):
    kpoints, points = make_kpoints(COUNTS), cell.get_uniform_grids(cell.mesh)
    kept = BlochValues(cell, kpoints, points, deriv=0, memory_mb=10.0)
    again = BlochValues(cell, kpoints, points, deriv=0, memory_mb=0.9 * kept.megabytes)
    assert kept.block(0) is kept.block(0)
    assert again.block(0) is not again.block(0)


@pytest.mark.parametrize("deriv", [0, 1])
def test_images_summed_once_give_the_same(cell, deriv):
    torus = TorusValues(cell, COUNTS, tuple(cell.mesh), deriv=deriv)
    assert isinstance(torus, BlochGrid)
    np.testing.assert_allclose(torus.scaled, half_mesh(COUNTS))
    points = cell.get_uniform_grids(cell.mesh, wrap_around=False)
    wanted = numint.eval_ao_kpts(cell, points, cell.get_abs_kpts(torus.scaled), deriv=deriv)
    wanted = np.stack([w.reshape((1, 4)[deriv], len(points), -1) for w in wanted])
    found = gathered(torus, deriv)[..., np.argsort(torus.order)]
    np.testing.assert_allclose(found, wanted.swapaxes(2, 3), atol=1e-5)
    assert abs(wanted.imag).max() > 0.05


def test_half_a_mesh_has_every_point_or_its_mirror():
    found = half_mesh((4, 3, 2))
    assert found.min() > -0.5
    assert found.max() <= 0.5
    both = np.concatenate([found, -found])
    both = np.unique(np.round((both - np.floor(both)) * 12).astype(int) % 12, axis=0)
    assert len(both) == 24
