"""Crystals by density fitting: every matrix is PySCF's, at the same density."""

import numpy as np
import pytest
import torch
from pyscf.pbc import df, dft, scf
from pyscf.pbc.dft import gen_grid

import deeph_zero as dz
from deeph_zero.errors import InputError
from deeph_zero.integrals.libxc import describe
from deeph_zero.integrals.periodic.exchange import whole_mesh
from deeph_zero.integrals.periodic.fitted import (
    FittedExchange,
    Fitting,
    fitted_coulomb,
    fixed_by_fitting,
    make_fitting,
    points_of,
)
from deeph_zero.integrals.periodic.kpoints import KPoints, make_kpoints
from deeph_zero.ks.terms.term import Density


@pytest.fixture(scope="module")
def cell(crystal):
    return crystal("helium")


@pytest.fixture(scope="module")
def kpoints():
    return make_kpoints((1, 1, 2))


@pytest.fixture(scope="module")
def fitting(cell, kpoints):
    return make_fitting(cell, kpoints)


def test_the_choice_is_pyscfs(cell, kpoints, fitting):
    assert type(fitting.with_df) is df.GDF
    assert isinstance(fitting.grids, gen_grid.BeckeGrids)
    _, whole = whole_mesh(kpoints)
    np.testing.assert_allclose(fitting.with_df.kpts.reshape(-1, 3), cell.get_abs_kpts(whole))


def test_coulomb_matrices_are_pyscfs(cell, kpoints, fitting, density):
    kpts = kpoints.absolute(cell)
    dm = density(cell, kpts, nspin=1)
    weights = torch.from_numpy(kpoints.weights)
    term = fitted_coulomb(fitting, kpoints, weights, real=False, pairs=False)
    found = term.energy_and_fock(Density.at_k_points(dm))
    wanted, _ = fitting.with_df.get_jk(dm[0].numpy(), kpts=kpts, with_k=False)
    np.testing.assert_allclose(found.fock[0].numpy(), wanted, atol=1e-9)
    energy = 0.5 * sum(
        w * np.trace(p @ j).real
        for w, p, j in zip(kpoints.weights, dm[0].numpy(), wanted, strict=True)
    )
    assert float(found.energy) == pytest.approx(energy, abs=1e-9)
    # Γ and the zone's edge are real
    real = fitted_coulomb(fitting, kpoints, weights, real=True, pairs=False)
    assert not any(t.is_complex() for t in real.tensors)
    for one, other in zip(real.tensors, term.tensors, strict=True):
        torch.testing.assert_close(one + 0j, other, rtol=0, atol=1e-10)


def test_fixed_matrices_are_pyscfs(cell, kpoints, fitting):
    kpts = kpoints.absolute(cell)
    mf = scf.KRHF(cell, kpts)
    mf.with_df = fitting.with_df
    np.testing.assert_allclose(fixed_by_fitting(fitting, kpoints), mf.get_hcore(), atol=1e-10)
    # in the order that is asked for
    turned = KPoints(scaled=kpoints.scaled[::-1], weights=kpoints.weights)
    np.testing.assert_allclose(
        fixed_by_fitting(fitting, turned), fixed_by_fitting(fitting, kpoints)[::-1]
    )


@pytest.mark.parametrize(("xc", "share"), [("hf", 1.0), ("pbe0", 0.25)])
def test_exchange_matrices_are_pyscfs(cell, fitting, density, xc, share):
    points = make_kpoints((1, 1, 2))
    kpts = points.absolute(cell)
    dm = density(cell, kpts, nspin=2)
    found = FittedExchange(fitting, describe(xc), "ewald", points)(dm)
    for s in range(2):
        _, k = fitting.with_df.get_jk(dm[s].numpy(), kpts=kpts, with_j=False, exxdiv="ewald")
        np.testing.assert_allclose(found[s].numpy(), share * k, atol=1e-9)
    real = FittedExchange(fitting, describe(xc), "ewald", points)(dm.real.contiguous())
    assert not real.is_complex()


def test_one_of_k_and_minus_k_is_enough(cell, density):
    points = make_kpoints((1, 1, 3))
    kpts = points.absolute(cell)
    fitting = make_fitting(cell, points)
    dm = density(cell, kpts, nspin=1)
    found = FittedExchange(fitting, describe("hf"), None, points)(dm)
    origins, whole = whole_mesh(points)
    stored = dm[0].numpy()
    given = np.array([stored[i].conj() if conjugate else stored[i] for i, conjugate in origins])
    every = cell.get_abs_kpts(whole)
    _, k = fitting.with_df.get_jk(given, kpts=every, with_j=False, exxdiv=None)
    kept = [n for n, (_, c) in enumerate(origins) if not c]
    assert len(kept) == 2
    np.testing.assert_allclose(found[0].numpy(), k[kept], atol=1e-9)


def test_points_are_built_where_they_are_not(cell, fitting):
    grids = gen_grid.BeckeGrids(cell)
    grids.level = 0
    coords, weights = points_of(Fitting(with_df=fitting.with_df, grids=grids))
    np.testing.assert_array_equal(coords, grids.coords)
    np.testing.assert_array_equal(weights.numpy(), grids.weights)
    assert len(weights) > 100


def test_exchange_by_rsgdf_of_an_object_that_has_not_run(cell, density):
    """RSGDF cannot add pairs of k-points to tensors made without, and has one operator."""

    def made(xc):
        mf = dft.KRKS(cell, cell.make_kpts([1, 1, 2]), xc=xc).rs_density_fit()
        mf.grids.level = 0
        return mf

    mf = made("pbe0")
    dm = density(cell, mf.kpts, nspin=1)
    energy, fock = dz.KohnSham.from_pyscf(made("pbe0"))(dm)
    plain, core = dm[0].numpy(), mf.get_hcore()
    veff = mf.get_veff(cell, plain)
    assert float(energy) == pytest.approx(mf.energy_tot(dm=plain, h1e=core, vhf=veff), abs=1e-9)
    np.testing.assert_allclose(fock[0], core + veff, atol=1e-9)
    with pytest.raises(InputError, match="GDF for the range-separated exchange of xc 'hse06'"):
        dz.KohnSham.from_pyscf(made("hse06"))
