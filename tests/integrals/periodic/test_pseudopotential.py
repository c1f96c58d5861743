"""Potentials of cores against PySCF's FFTDF."""

import numpy as np
import pytest
from pyscf.pbc import df
from pyscf.pbc.dft import numint

from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.integrals.periodic.pseudopotential import local_potential, nonlocal_potential

KPTS = np.array([[0.0, 0.0, 0.0], [0.21, -0.1, 0.33]])


def matrices(cell, values, kpts):
    """Of a potential on the grid, by quadrature."""
    ao = numint.eval_ao_kpts(cell, cell.get_uniform_grids(cell.mesh), kpts)
    weight = cell.vol / len(values)
    return np.stack([weight * np.einsum("gi,g,gj->ij", a.conj(), values, a) for a in ao])


@pytest.mark.parametrize("name", ["diamond", "helium"])
def test_both_parts_are_pyscfs(name, crystal):
    cell = crystal(name, mesh=[11, 11, 11])
    kpts = cell.get_abs_kpts(KPTS)
    mydf = df.FFTDF(cell, kpts)
    wanted = np.asarray(mydf.get_pp(kpts) if cell.pseudo else mydf.get_nuc(kpts))
    points = KPoints(scaled=KPTS, weights=np.full(2, 0.5))
    local = matrices(cell, local_potential(cell, tuple(cell.mesh)), kpts)
    apart = nonlocal_potential(cell, tuple(cell.mesh), points)
    assert np.abs(local).max() > 0.1
    assert (np.abs(apart).max() > 1e-3) == bool(cell.pseudo)
    np.testing.assert_allclose(local + apart, wanted, atol=1e-9)


def test_points_that_stand_for_minus_k_too_get_the_mean(crystal):
    cell = crystal("diamond", mesh=[8, 8, 8])  # an even mesh ends unevenly
    mesh = tuple(cell.mesh)
    one, other = (
        nonlocal_potential(cell, mesh, KPoints(scaled=k[None], weights=np.ones(1)))[0]
        for k in (KPTS[1], -KPTS[1])
    )
    paired = KPoints(scaled=KPTS[1:], weights=np.ones(1), partners=-KPTS[1:])
    mean = nonlocal_potential(cell, mesh, paired)[0]
    assert np.abs(one - other.conj()).max() > 1e-12
    np.testing.assert_allclose(mean, 0.5 * (one + other.conj()), atol=1e-13)
