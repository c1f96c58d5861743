"""SCAN correlation: its norms, its parts against their formulas, and their slopes."""

import math

import pytest
import torch

from deeph_zero.ks.xc import mgga_c_scan as scan
from deeph_zero.ks.xc.density_variables import ClosedShell, Polarised
from deeph_zero.ks.xc.gga_c_pbe import BETA, GAMMA, T2_FACTOR
from deeph_zero.ks.xc.lda_c_pw import PW92_MOD

from .rows import density_of, energy, energy_density, one_s, slope_of, uniform_gas

RS = torch.tensor([0.4, 2.0, 9.0], dtype=torch.float64)
RHO = torch.tensor([0.05, 0.6, 4.0], dtype=torch.float64)
SIGMA = torch.tensor([0.01, 0.3, 20.0], dtype=torch.float64)


def closed(rho=RHO, sigma=SIGMA):
    return ClosedShell(rho > 0, 1e-15, rho, sigma, 2 * rho ** (5 / 3) + sigma / rho)


@pytest.mark.parametrize("spin", [0, 1])
def test_one_electron_does_not_correlate(spin):
    rows, weights = one_s()
    rows = rows if spin == 0 else rows.flip(0)
    assert energy("MGGA_C_SCAN", rows, weights) == pytest.approx(0, abs=1e-9)


def test_two_electrons_of_a_heavy_nucleus():
    """One of the paper's norms: -0.0467 Eh."""
    assert energy("MGGA_C_SCAN", *one_s(1e4, 2)) == pytest.approx(-0.0467, abs=1e-4)


@pytest.mark.parametrize("zeta", [None, 0.0, -0.6])
def test_the_gas(zeta):
    rows = uniform_gas(density_of(RS), zeta)
    found, wanted = energy_density("MGGA_C_SCAN", rows), energy_density("LDA_C_PW_MOD", rows)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_the_gradient_coefficient_between_its_limits():
    rs = torch.tensor([0.0, 3.0, 1e12], dtype=torch.float64)
    found = scan.beta_of_rs(rs)
    assert float(found[0]) == BETA
    assert float(found[1]) == pytest.approx(BETA * 1.3 / 1.5334, rel=1e-13)
    assert float(found[2]) == pytest.approx(BETA / 1.778, rel=1e-9)


def test_one_minus_g_keeps_small_numbers():
    y = torch.tensor([0.0, 1e-18, 1.0, 1e8], dtype=torch.float64)
    wanted = torch.tensor([0.0, 1e-18, 1 - 5**-0.25, 1 - (1 + 4e8) ** -0.25], dtype=torch.float64)
    torch.testing.assert_close(scan.one_minus_g(y), wanted, rtol=1e-13, atol=0)


def test_the_spin_factor_ends_at_zero():
    n = torch.ones(4, dtype=torch.float64)
    share = torch.tensor([0.5, 0.8, 1.0, 0.0], dtype=torch.float64)
    found = scan.spin_factor(Polarised(n > 0, 1e-15, share, 1 - share))
    assert float(found[0]) == pytest.approx(1, abs=1e-15)
    f = (1.6 ** (4 / 3) + 0.4 ** (4 / 3) - 2) / (2 ** (4 / 3) - 2)
    by_hand = (1 - 2.363 * (2 ** (1 / 3) - 1) * f) * (1 - 0.6**12)
    assert float(found[1]) == pytest.approx(by_hand, rel=1e-12)
    assert float(found[2:].abs().max()) < 1e-12


def test_a_single_orbital_has_the_printed_energy():
    """eps0 + b1 ln(1 + w0 (1 - g(s))), from the low-density limit of the uniform part."""
    rs, p = torch.tensor([[2.0], [0.7]], dtype=torch.float64)
    eps0 = -0.0285764 / (1 + 0.0889 * math.sqrt(2) + 0.125541 * 2)
    w0 = math.exp(-eps0 / 0.0285764) - 1
    g = (1 + 4 * 0.12802585262625815 * 0.7) ** -0.25
    wanted = eps0 + 0.0285764 * math.log(1 + w0 * (1 - g))
    assert float(scan.lda0(rs, rs.sqrt())) == pytest.approx(eps0, rel=1e-13)
    found = scan.single_orbital(scan.lda0(rs, rs.sqrt()), p)
    assert float(found) == pytest.approx(wanted, rel=1e-13)


def test_slopes_of_a_single_orbital():
    d, p = closed(), torch.tensor([0.0, 0.4, 30.0]).double()
    value, by_rs, by_p, u = scan.single_orbital_first(d, p)

    def energy_of(log_rs, p):
        rs = torch.exp(log_rs)
        return scan.single_orbital(scan.lda0(rs, torch.sqrt(rs)), p)

    at = d.rs.log()
    torch.testing.assert_close(value, energy_of(at, p), rtol=1e-12, atol=0)
    torch.testing.assert_close(by_rs, slope_of(lambda x: energy_of(x, p), at), rtol=1e-10, atol=0)
    torch.testing.assert_close(by_p, slope_of(lambda x: energy_of(at, x), p), rtol=1e-10, atol=0)
    torch.testing.assert_close(-scan.B1C / u, scan.lda0(d.rs, d.rs_sqrt), rtol=1e-13, atol=0)


def w1_of(d):
    return torch.expm1(-PW92_MOD.unpolarised(d) / GAMMA)


def scaled_t2(rho, sigma):
    d = closed(rho, sigma)
    t2 = T2_FACTOR * sigma / rho ** (7 / 3)
    return scan.beta_of_rs(d.rs) * t2 / (GAMMA * w1_of(d))


def test_slopes_of_the_scaled_gradient():
    d = closed()
    slope = PW92_MOD.slope_unpolarised(d)
    y, by_rho, by_sigma = scan.scaled_t2_first(d, slope, w1_of(d))
    torch.testing.assert_close(y, scaled_t2(RHO, SIGMA), rtol=1e-12, atol=0)
    wanted = RHO * slope_of(lambda x: scaled_t2(x, SIGMA), RHO)
    torch.testing.assert_close(by_rho, wanted, rtol=1e-10, atol=0)
    wanted = slope_of(lambda x: scaled_t2(RHO, x), SIGMA)
    torch.testing.assert_close(by_sigma, wanted, rtol=1e-10, atol=0)


def test_slopes_of_the_slowly_varying_part():
    def slow(rho, sigma):
        d = closed(rho, sigma)
        grown = w1_of(d) * scan.one_minus_g(scaled_t2(rho, sigma))
        return PW92_MOD.unpolarised(d) + GAMMA * torch.log1p(grown)

    d = closed()
    eps = PW92_MOD.para.energy_and_slope(d.rs, d.rs_sqrt)
    w1 = w1_of(d)
    found = scan.gradient_bracket(eps, w1, scan.scaled_t2_first(d, eps[1], w1))
    torch.testing.assert_close(found[0], slow(RHO, SIGMA), rtol=1e-11, atol=0)
    wanted = RHO * slope_of(lambda x: slow(x, SIGMA), RHO)
    torch.testing.assert_close(found[1], wanted, rtol=1e-9, atol=0)
    wanted = slope_of(lambda x: slow(RHO, x), SIGMA)
    torch.testing.assert_close(found[2], wanted, rtol=1e-9, atol=0)


def test_parts_are_blended_with_their_slopes():
    """rho (a + f (b - a)) with numbers for all: the product rule written out."""
    d = closed()
    numbers = torch.randn(11, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a, b, switch, alpha = numbers[:3], numbers[3:6], numbers[6:8], numbers[8:]
    found = scan.assemble_correlation(
        d, tuple(a.clone()), tuple(b.clone()), tuple(switch.clone()), tuple(alpha.clone())
    )
    f, slope = switch
    mixed = a + f * (b - a)
    gap = (b[0] - a[0]) * slope
    wanted = RHO * mixed[0], mixed[0] + mixed[1] + gap * alpha[0]
    wanted += RHO * (mixed[2] + gap * alpha[1]), RHO * gap * alpha[2]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
