"""Perdew and Wang's correlation: the Monte Carlo gas, its limits, slopes and spin interpolation."""

import math

import pytest
import torch

from deeph_zero.ks.xc.density_variables import Polarised
from deeph_zero.ks.xc.lda_c_pw import PW92, PW92_MOD, interpolated

from .rows import MONTE_CARLO, density_of, energy, one_s, per_electron, slope_of, uniform_gas

RS = torch.tensor([1e-3, 0.07, 0.5, 2.3, 11.0, 90.0], dtype=torch.float64)
FITS = {"para": PW92.para, "ferro": PW92.ferro, "stiffness": PW92_MOD.stiffness}
fits = pytest.mark.parametrize("fit", FITS.values(), ids=FITS)


def spins(rs, zeta):
    n = density_of(rs)
    zeta = torch.as_tensor(zeta, dtype=torch.float64)
    return Polarised(n > 0, 1e-15, (1 + zeta) / 2 * n, (1 - zeta) / 2 * n)


@pytest.mark.parametrize("rs", MONTE_CARLO)
def test_the_gas_is_that_of_monte_carlo(rs):
    found = float(per_electron("LDA_C_PW", uniform_gas(density_of(rs))))
    assert found == pytest.approx(MONTE_CARLO[rs], rel=0.01)


@fits
def test_slope_and_curvature_are_derivatives_by_the_logarithm(fit):
    def energy_of(log_rs):
        rs = torch.exp(log_rs)
        return fit.energy(rs, torch.sqrt(rs))

    def slope(log_rs):
        return slope_of(energy_of, log_rs) if not log_rs.requires_grad else _slope(log_rs)

    def _slope(log_rs):
        rs = torch.exp(log_rs)
        return fit.energy_and_slope(rs, torch.sqrt(rs))[1]

    at, root = RS.log(), RS.sqrt()
    value, first = fit.energy_and_slope(RS, root)
    torch.testing.assert_close(value, energy_of(at), rtol=1e-13, atol=0)
    torch.testing.assert_close(first, slope(at), rtol=1e-11, atol=0)
    torch.testing.assert_close(fit.slope(RS, root), first, rtol=0, atol=0)
    three = fit.up_to_curvature(RS, root)
    wanted = value, first, slope_of(_slope, at)
    for found, one in zip(three, wanted, strict=True):
        torch.testing.assert_close(found, one, rtol=1e-10, atol=1e-16)


def test_dense_gas_follows_its_logarithm():
    """(1 - ln 2) / pi^2 ln rs without spins, half of it with one spin."""
    rs = torch.tensor([1e-9, 1e-8], dtype=torch.float64)
    exact = (1 - math.log(2)) / math.pi**2
    for fit, share in ((PW92_MOD.para, 1.0), (PW92_MOD.ferro, 0.5)):
        energy_at = fit.energy(rs, rs.sqrt())
        slope = float(energy_at[1] - energy_at[0]) / math.log(10)
        assert slope == pytest.approx(share * exact, rel=1e-3)


@pytest.mark.parametrize("fit", [PW92, PW92_MOD], ids=["printed", "more digits"])
def test_spin_interpolation_ends_in_both_fits(fit):
    ends = [fit.polarised(spins(RS, zeta)) for zeta in (0.0, 1.0, -1.0)]
    torch.testing.assert_close(ends[0], fit.para.energy(RS, RS.sqrt()), rtol=1e-12, atol=0)
    for end in ends[1:]:
        torch.testing.assert_close(end, fit.ferro.energy(RS, RS.sqrt()), rtol=1e-12, atol=0)


def test_the_spin_stiffness_is_the_second_derivative_at_zero():
    step = 1e-3
    low, mid, high = (PW92_MOD.polarised(spins(RS, z)) for z in (-step, 0.0, step))
    found = (low + high - 2 * mid) / step**2
    wanted = -PW92_MOD.stiffness.energy(RS, RS.sqrt())
    assert bool((wanted > 0).all())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("zeta", [-0.9, 0.0, 0.35])
def test_first_derivatives_by_rs_and_zeta(zeta):
    eps, by_rs, by_zeta = PW92.polarised_first(spins(RS, zeta))
    torch.testing.assert_close(eps, PW92.polarised(spins(RS, zeta)), rtol=1e-12, atol=0)
    step = 1e-5
    up, down = (PW92.polarised(spins(RS, zeta + t)) for t in (step, -step))
    torch.testing.assert_close(by_zeta, (up - down) / (2 * step), rtol=1e-6, atol=1e-11)
    up, down = (PW92.polarised(spins(RS * math.exp(t), zeta)) for t in (step, -step))
    torch.testing.assert_close(by_rs, (up - down) / (2 * step), rtol=1e-6, atol=1e-11)
    torch.testing.assert_close(PW92.slope_polarised(spins(RS, zeta)), by_rs, rtol=1e-11, atol=0)


def test_interpolation_of_constants():
    """Three numbers that do not depend on rs: only f(zeta) and zeta^4 are left."""
    d = spins(RS, 0.5)
    one = torch.ones_like(RS)
    eps, by_rs, by_zeta = interpolated(d, (one, 0 * one), (3 * one, 0 * one), (2 * one, 0 * one))
    f = (1.5 ** (4 / 3) + 0.5 ** (4 / 3) - 2) / (2 ** (4 / 3) - 2)
    f_slope = 4 / 3 * (1.5 ** (1 / 3) - 0.5 ** (1 / 3)) / (2 ** (4 / 3) - 2)
    torch.testing.assert_close(eps, one * (1 + 2 * f), rtol=1e-13, atol=0)  # ferro is their sum
    assert not by_rs.any()
    torch.testing.assert_close(by_zeta, one * 2 * f_slope, rtol=1e-12, atol=0)


def test_hydrogen():
    # S. Kurth, J. P. Perdew, P. Blaha, Int. J. Quantum Chem. 75, 889 (1999), table II
    assert energy("LDA_C_PW", *one_s()) == pytest.approx(-0.0222, abs=5e-5)
