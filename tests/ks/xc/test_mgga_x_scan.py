"""SCAN exchange: its norms and bound, the switch between kinds of bonds, and slopes by hand."""

import math

import pytest
import torch

from deeph_zero.ks.xc.density_variables import ClosedShell
from deeph_zero.ks.xc.mgga_x_scan import (
    EXCHANGE_SWITCH,
    alpha_and_slopes,
    damping_and_slope,
    enhancement_h1x,
    large_gradient_damping,
)

from .rows import K_F, energy, energy_density, one_s, slope_of, uniform_gas


@pytest.mark.parametrize(("charge", "electrons", "exact"), [(1, 1, -0.3125), (3, 2, -1.875)])
def test_one_orbital_is_nearly_exact(charge, electrons, exact):
    """Hydrogen is a norm of SCAN's: -5 Z / 16 for each electron."""
    found = energy("MGGA_X_SCAN", *one_s(float(charge), electrons))
    assert found == pytest.approx(exact, rel=1e-5)


def test_the_gas_has_no_enhancement():
    rows = uniform_gas(torch.tensor([0.01, 0.7, 30.0], dtype=torch.float64))
    found, wanted = energy_density("MGGA_X_SCAN", rows), energy_density("LDA_X", rows)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_the_tight_bound():
    """F <= 1.174 for every density: J. P. Perdew et al., J. Chem. Phys. 140, 18A533 (2014)."""
    generator = torch.Generator().manual_seed(0)
    n = torch.exp(4 * torch.randn(4000, generator=generator, dtype=torch.float64))
    rows = uniform_gas(n)
    s, more = (
        torch.exp(2 * torch.randn(2, 4000, generator=generator, dtype=torch.float64))
    ).unbind()
    rows[0, 1] = 2 * math.sqrt(K_F) * n ** (4 / 3) * s
    rows[0, 4] = rows[0, 4] * more + rows[0, 1] ** 2 / (8 * n)
    factor = energy_density("MGGA_X_SCAN", rows) / energy_density("LDA_X", rows)
    assert float(factor.max()) <= 1.174
    assert float(factor.max()) > 1.1
    assert float(factor.min()) > 0


def test_the_switch():
    """1 for one orbital, 0 with all derivatives in the gas, -d between closed shells."""
    alpha = torch.tensor([0.0, 0.97, 1.0, 1.03, 1e9], dtype=torch.float64)
    found = EXCHANGE_SWITCH(alpha)
    assert found[:1].tolist() == [1.0]
    assert float(found[1:4].abs().max()) < 1e-8
    assert float(found[4]) == pytest.approx(-1.24, rel=1e-8)
    mid = torch.tensor([0.4, 2.5], dtype=torch.float64)
    wanted = [math.exp(-0.667 * 0.4 / 0.6), -1.24 * math.exp(0.8 / (1 - 2.5))]
    torch.testing.assert_close(EXCHANGE_SWITCH(mid), torch.tensor(wanted).double())


@pytest.mark.parametrize("alpha", [[-0.5, 0.0, 0.3, 0.8], [0.99, 1.0, 1.01], [1.4, 3.0, 1e3]])
def test_slopes_of_the_switch(alpha):
    at = torch.tensor(alpha, dtype=torch.float64)
    value, slope = EXCHANGE_SWITCH.value_and_slope(at)
    torch.testing.assert_close(value, EXCHANGE_SWITCH(at), rtol=1e-12, atol=1e-300)
    torch.testing.assert_close(slope, slope_of(EXCHANGE_SWITCH, at), rtol=1e-11, atol=1e-300)


def test_damping_of_large_gradients():
    p = torch.tensor([0.0, 1e-9, 0.3, 40.0, 1e8], dtype=torch.float64)
    value, slope = damping_and_slope(p)
    torch.testing.assert_close(value, large_gradient_damping(p), rtol=1e-13, atol=0)
    torch.testing.assert_close(slope, slope_of(large_gradient_damping, p), rtol=1e-11, atol=0)
    assert value[:2].tolist() == [1.0, 1.0]
    assert float(value[3]) == pytest.approx(1 - math.exp(-4.9479 / 40**0.25), rel=1e-12)
    # without it exchange would not scale as two dimensions want: F ~ s^(-1/2)
    assert float(value[4]) == pytest.approx(4.9479 / 1e2, rel=0.05)


def test_the_slow_enhancement_is_bounded():
    x = torch.tensor([0.0, 1e-6, 1e9], dtype=torch.float64)
    found = enhancement_h1x(x)
    assert float(found[0]) == 1.0
    assert float(found[1]) == pytest.approx(1 + 1e-6, rel=1e-10)
    assert float(found[2]) == pytest.approx(1.065, rel=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.001, 0.3])
def test_alpha_and_its_slopes(eta):
    rho, sigma, tau = (torch.tensor(x).double() for x in ([0.2, 3.0], [0.1, 7.0], [0.3, 9.0]))

    def alpha(rho, sigma, tau):
        weizsaecker = sigma / (8 * rho)
        return (tau - weizsaecker) / (0.3 * K_F * rho ** (5 / 3) + eta * weizsaecker)

    d = ClosedShell(rho > 0, 1e-15, rho, sigma, tau)
    found, slopes = alpha_and_slopes(d, eta)
    torch.testing.assert_close(found, alpha(rho, sigma, tau), rtol=1e-13, atol=0)
    wanted = (
        rho * slope_of(lambda x: alpha(x, sigma, tau), rho),
        slope_of(lambda x: alpha(rho, x, tau), sigma),
        slope_of(lambda x: alpha(rho, sigma, x), tau),
    )
    for one, other in zip(slopes, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=0)
