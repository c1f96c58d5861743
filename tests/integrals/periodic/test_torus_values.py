"""AO values at a whole mesh of k-points, by one Fourier sum, against PySCF's at each k-point."""

import itertools

import numpy as np
import pytest
import torch
from pyscf.pbc.dft import numint

from deeph_zero.integrals.periodic import torus_values
from deeph_zero.integrals.periodic.bloch_values import BlochValues
from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.integrals.periodic.torus_values import TorusValues, half_mesh
from deeph_zero.ks.periodic.grid import potential_matrix


def whole(values):
    """Every block, put together in the order of the grid: [nk, ncomp, nao, npoints]."""
    parts = [values.block(b) for b in range(values.n_blocks)]
    assert [p.points.start for p in parts[1:]] == [p.points.stop for p in parts[:-1]]
    for part in parts:
        (group,) = part.groups
        assert group.index.tolist() == list(range(values.nk))
    found = torch.cat([p.groups[0].ao for p in parts], -1).numpy()
    return found[..., np.argsort(values.order)]


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
    points = cell.get_uniform_grids(mesh, wrap_around=False)
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


@pytest.mark.parametrize(
    ("name", "nspin", "nvar"), [("slab", 1, 4), ("labels", 2, 4), ("lih", 2, 1)]
)
@pytest.mark.parametrize("counts", [(2, 3, 2), (9, 10, 7)])
def test_matrices_are_those_of_the_values(crystal, name, nspin, nvar, counts):
    """Sums before the transform and after it; images of the small torus fall onto each other."""
    cell = crystal(name, **({"dimension": 2} if name == "slab" else {}))
    values = TorusValues(cell, counts, (4, 5, 6), deriv=int(nvar > 1))
    rows = torch.from_numpy(np.random.default_rng(1).normal(size=(nspin, nvar, 120)))
    found = values.potential_matrix(rows)
    wanted = potential_matrix(values, rows[..., values.order], torch.complex128)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)
    coords = cell.get_uniform_grids((4, 5, 6))
    points = KPoints(scaled=values.scaled, weights=np.full(values.nk, 1 / values.nk))
    plain = BlochValues(cell, points, coords, deriv=int(nvar > 1), memory_mb=0.0)
    theirs = potential_matrix(plain, rows, torch.complex128)
    assert float(theirs.abs().max()) > 1.0
    torch.testing.assert_close(found, theirs, rtol=0, atol=2e-4)


def test_memory_does_not_grow_with_the_grid(crystal):
    """A box holds fewer points where there are more cells."""
    cell = crystal("lih")
    few, many = (TorusValues(cell, n, (40, 40, 40), deriv=0) for n in ((1, 1, 1), (20, 20, 20)))
    assert many.n_blocks > few.n_blocks
    largest = max(len(many.block(b).groups[0].ao[0, 0, 0]) for b in (0, many.n_blocks - 1))
    assert largest * 8 * 8000 * cell.nao < 1.5e6 * torus_values.BLOCK_MB
