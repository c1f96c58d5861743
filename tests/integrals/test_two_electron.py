"""Two-electron operators against PySCF's J and K, functional by functional."""

import types
from functools import partial

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.dft.numint import NumInt

from deeph_zero.errors import ComputationError
from deeph_zero.integrals import two_electron
from deeph_zero.integrals.mole import auxiliary_basis
from deeph_zero.integrals.two_electron import (
    available_memory_mb,
    exchange_terms,
    fitted_tensor,
    fitted_tensor_bytes,
    four_centre,
    four_centre_bytes,
    two_electron_operators,
)
from deeph_zero.testing import WATER


def spec(xc):
    omega, alpha, hyb = NumInt().rsh_and_hybrid_coeff(xc)
    return types.SimpleNamespace(hyb=hyb, alpha=alpha, omega=omega)


def random_dm(nao, seed=1):
    a = np.random.default_rng(seed).normal(size=(nao, nao))
    return (a + a.T) / 2


def exchange_of(terms, dm):
    """c_x K as PySCF's get_veff forms it: the energy-level definition, tr(c_x K dm)."""
    return sum(c * op.exchange(dm) for c, op in terms)


def pyscf_cxk(mf, dm):
    """c_x K out of PySCF's own get_veff: veff = J + vxc - c_x K / 2 (closed shell)."""
    veff = mf.get_veff(mf.mol, dm)
    ni = mf._numint
    vxc = ni.nr_rks(mf.mol, mf.grids, mf.xc, dm)[2]
    return 2 * (veff.vj + vxc - np.asarray(veff)), veff.vj


RANGE = ["pbe", "pbe0", "hse06", "camb3lyp", "wb97x", "lc_wpbe", "m06_l"]


@pytest.mark.parametrize("fit", [True, False])
@pytest.mark.parametrize("xc", RANGE)
def test_coulomb_and_exchange_are_those_of_get_veff(water, xc, fit):
    mf = dft.RKS(water, xc=xc)
    mf.grids.level = 0
    aux = None
    if fit:
        mf = mf.density_fit()
        aux = auxiliary_basis(water, xc)
    dm = random_dm(water.nao)
    cxk, vj = pyscf_cxk(mf, dm)
    two = two_electron_operators(water, exchange_terms(spec(xc)), aux)
    np.testing.assert_allclose(two.coulomb.coulomb(torch.from_numpy(dm)), vj, atol=1e-10)
    if xc in {"pbe", "m06_l"}:
        assert two.exchange == ()
        return
    ours = exchange_of(two.exchange, torch.from_numpy(dm)).numpy()
    assert np.abs(cxk).max() > 0.1
    np.testing.assert_allclose(ours, cxk, atol=1e-9)


@pytest.mark.parametrize(
    ("hyb", "alpha", "omega", "terms"),
    [
        (0.0, 0.0, 0.0, ()),
        (0.0, 0.0, 0.3, ()),
        (0.25, 0.0, 0.0, ((0.25, 0.0),)),
        (0.25, 0.0, 0.11, ((0.25, -0.11),)),
        (0.0, 1.0, 0.4, ((1.0, 0.4),)),
        (0.19, 0.65, 0.33, ((0.19, 0.0), (0.46, 0.33))),
        (0.25, 0.25, 0.33, ((0.25, 0.0),)),
    ],
)
def test_branches(hyb, alpha, omega, terms):
    result = exchange_terms(types.SimpleNamespace(hyb=hyb, alpha=alpha, omega=omega))
    assert [w for _, w in result] == [w for _, w in terms]
    np.testing.assert_allclose([c for c, _ in result], [c for c, _ in terms], atol=1e-15)


@pytest.mark.parametrize("omega", [0.0, 0.11, 0.33, -0.11, -0.33])
def test_fitted_tensor_is_pyscfs_per_operator(water, omega):
    aux = auxiliary_basis(water, "pbe0")
    with_df = dft.RKS(water, xc="pbe0").density_fit().with_df
    if omega == 0:
        reference = with_df.build()._cderi
    else:
        with with_df.range_coulomb(omega) as ranged:
            reference = ranged.build()._cderi
    ours = fitted_tensor(water, aux.mole, omega=omega).cderi
    assert ours.shape == reference.shape
    np.testing.assert_allclose(ours.T @ ours, reference.T @ reference, atol=1e-11)
    assert aux.mole.omega == water.omega == 0


def test_singular_long_range_metric_loses_functions_as_in_pyscf():
    # the long-range metric at small omega has many vanishing eigenvalues
    mol = gto.M(atom=WATER, basis="def2-svp", verbose=0)
    aux = auxiliary_basis(mol, "pbe0")
    with_df = dft.RKS(mol, xc="pbe0").density_fit().with_df
    with with_df.range_coulomb(0.02) as ranged:
        reference = ranged.build()._cderi
    tensor = fitted_tensor(mol, aux.mole, omega=0.02)
    assert len(reference) < aux.mole.nao
    assert tensor.cderi.shape == reference.shape
    dm = random_dm(mol.nao)
    k_reference = with_df.get_jk(dm, with_j=False, omega=0.02)[1]
    np.testing.assert_allclose(tensor.exchange(torch.from_numpy(dm)), k_reference, atol=1e-10)


def test_short_range_fit_is_not_the_difference_of_the_others(water):
    # why every operator has its own tensor
    aux = auxiliary_basis(water, "pbe0").mole
    dm = torch.from_numpy(random_dm(water.nao))
    full, long, short = (
        fitted_tensor(water, aux, omega=w).exchange(dm) for w in (0.0, 0.11, -0.11)
    )
    difference = (full - long - short).abs().max()
    assert 1e-8 < difference < 1e-2


@pytest.mark.parametrize(
    "options",
    [
        {"atom": "H .1 .2 0; I 0 .3 1.6", "basis": "def2-svp", "ecp": "def2-svp"},
        {"atom": "O 0 0 .1; H 0 .76 .58", "basis": "6-31g*", "cart": True, "charge": -1},
        {"atom": "He 0 0 0; ghost-He 0 .4 1.5", "basis": "def2-svp"},
        {"atom": "H .3 .1 .2; H 0 0 1", "basis": "def2-tzvp"},
    ],
    ids=["ecp", "cart", "ghost", "h2"],
)
def test_fitted_jk_for_unusual_molecules(options):
    mol = gto.M(verbose=0, **options)
    aux = auxiliary_basis(mol, "pbe0")
    mf = dft.RKS(mol, xc="pbe0").density_fit()
    dm = random_dm(mol.nao)
    vj, vk = mf.get_jk(mol, dm)
    tensor = fitted_tensor(mol, aux.mole)
    np.testing.assert_allclose(tensor.coulomb(torch.from_numpy(dm)), vj, atol=1e-9)
    np.testing.assert_allclose(tensor.exchange(torch.from_numpy(dm)), vk, atol=1e-9)


def test_sizes_are_known_before_and_equal_after(water):
    aux = auxiliary_basis(water, "pbe").mole
    tensor = fitted_tensor(water, aux).cderi
    assert fitted_tensor_bytes(water, aux) == tensor.numel() * 8
    assert four_centre_bytes(water) == four_centre(water).eri.numel() * 8
    assert tensor.dtype == torch.float64
    assert tensor.is_contiguous()


@pytest.mark.parametrize("fit", [True, False])
def test_too_large_a_tensor_is_refused_before_it_is_allocated(water, fit, monkeypatch):
    aux = auxiliary_basis(water, "pbe0").mole
    size = (fitted_tensor_bytes(water, aux) if fit else four_centre_bytes(water)) / 1e6

    def never(*_args, **_kwargs):
        raise AssertionError("allocated")

    monkeypatch.setattr(two_electron.incore, "cholesky_eri", never)
    monkeypatch.setattr(two_electron.incore, "aux_e2", never)
    monkeypatch.setattr(water.__class__, "intor", never)
    build = partial(fitted_tensor, water, aux) if fit else partial(four_centre, water)
    with pytest.raises(ComputationError) as error:
        build(max_memory_mb=size / 2)
    message = str(error.value)
    assert f"within {size / 2:.0f} MB, it takes {size:.0f} MB" in message
    assert "use" in message
    assert "\n" not in message


def test_all_operators_count_towards_the_limit(water):
    aux = auxiliary_basis(water, "camb3lyp")
    one = fitted_tensor_bytes(water, aux.mole) / 1e6
    terms = exchange_terms(spec("camb3lyp"))
    assert two_electron_operators(water, terms, aux, max_memory_mb=2.1 * one).memory_bytes == (
        2 * fitted_tensor_bytes(water, aux.mole)
    )
    with pytest.raises(ComputationError, match="2 fitted and 0 exact"):
        two_electron_operators(water, terms, aux, max_memory_mb=1.9 * one)


def test_coulomb_and_exchange_share_the_full_operator(water):
    aux = auxiliary_basis(water, "pbe0")
    two = two_electron_operators(water, exchange_terms(spec("pbe0")), aux)
    assert two.exchange[0][1] is two.coulomb


def test_available_memory_is_plausible():
    assert 10 < available_memory_mb() < 1e8
