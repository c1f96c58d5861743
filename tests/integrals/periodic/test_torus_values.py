"""AO values at a whole mesh of k-points, by one Fourier sum, against PySCF's at each k-point."""

import itertools

import numpy as np
import pytest
import torch
from pyscf.pbc.dft import numint

from deeph_zero.integrals.periodic import torus_values
from deeph_zero.integrals.periodic.torus_values import TorusValues, half_mesh


def whole(values):
    """Every block, put together: [nk, ncomp, nao, npoints]."""
    parts = [values.block(b) for b in range(values.n_blocks)]
    assert [p.points.start for p in parts[1:]] == [p.points.stop for p in parts[:-1]]
    for part in parts:
        (group,) = part.groups
        assert group.index.tolist() == list(range(values.nk))
    return torch.cat([p.groups[0].ao for p in parts], -1).numpy()


@pytest.mark.parametrize(
    ("name", "counts", "deriv"),
    [
        ("lih", (2, 1, 3), 1),
        ("helium", (3, 2, 1), 1),
        ("slab", (2, 3, 1), 0),
        ("labels", (1, 2, 1), 0),  # with a ghost atom
    ],
)
def test_values_are_pyscfs(crystal, monkeypatch, name, counts, deriv):
    cell = crystal(name, **({"dimension": 2} if name == "slab" else {}))
    mesh = (4, 5, 6)
    monkeypatch.setattr(torus_values, "BLOCK_MB", 0.01)
    values = TorusValues(cell, counts, mesh, deriv=deriv)
    assert values.n_blocks > 1
    assert (values.ngrids, values.nao) == (120, cell.nao)
    found = whole(values)
    points = cell.get_uniform_grids(mesh)
    wanted = numint.eval_ao_kpts(cell, points, cell.get_abs_kpts(values.scaled), deriv=deriv)
    for k, values_at_k in enumerate(wanted):
        own = values_at_k.reshape(-1, 120, cell.nao).transpose(0, 2, 1)
        np.testing.assert_allclose(found[k], own, atol=2e-5 if deriv else 5e-6)
    assert np.abs(found).max() > 0.1


@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 3, 4), (3, 1, 5), (4, 4, 2)])
def test_half_of_the_mesh_in_the_order_of_a_real_transform(counts):
    """A function on the cells, summed with exp(-2πi m·T/N), is rfftn's spectrum."""
    rng = np.random.default_rng(0)
    on_cells = rng.normal(size=counts)
    found = half_mesh(counts)
    assert (found > -0.5).all()
    assert (found <= 0.5).all()
    cells = np.array(list(itertools.product(*(range(n) for n in counts))))
    sums = np.exp(2j * np.pi * found @ cells.T) @ on_cells.ravel()
    np.testing.assert_allclose(sums, np.fft.rfftn(on_cells).ravel(), atol=1e-12)


def test_cells_that_reach_a_place_are_all_found():
    vectors = np.array([[2.0, 0.3, 0], [-0.5, 2.5, 0.4], [0.2, 0.1, 3.1]])
    centre, radius = np.array([0.7, -1.1, 2.3]), 6.0
    found = torus_values._cells_within(vectors, centre, radius)
    every = np.array(list(itertools.product(range(-8, 9), repeat=3)))
    near = every[np.linalg.norm(centre - every @ vectors, axis=1) <= radius]
    assert sorted(map(tuple, found)) == sorted(map(tuple, near))
    assert len(found) > 30
