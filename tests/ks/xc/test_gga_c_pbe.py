"""PBE correlation: its three limits, its beta, and atoms of one and two electrons."""

import math

import pytest
import torch

from deeph_zero.ks.xc.gga_c_pbe import BETA, BETA_SOL, T2_FACTOR, gradient_correction

from .rows import density_of, energy, one_s, per_electron, uniform_gas

RS = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
NAMES = pytest.mark.parametrize(
    ("name", "beta"), [("GGA_C_PBE", BETA), ("GGA_C_PBE_SOL", BETA_SOL)]
)
ZETAS = pytest.mark.parametrize("zeta", [None, 0.0, 0.5, 1.0])


def with_gradient(zeta, t):
    """Rows of the gas with the reduced gradient t in every spin's share."""
    density = density_of(RS)
    rows = uniform_gas(density, zeta)
    phi = 1.0 if zeta is None else ((1 + zeta) ** (2 / 3) + (1 - zeta) ** (2 / 3)) / 2
    slope = t * phi * density ** (7 / 6) / math.sqrt(T2_FACTOR)
    for row in rows:
        row[1] = slope * row[0] / density
    return rows, phi


@NAMES
@ZETAS
def test_without_gradient_it_is_the_gas(name, beta, zeta):
    del beta
    rows = uniform_gas(density_of(RS), zeta)
    found, wanted = per_electron(name, rows), per_electron("LDA_C_PW_MOD", rows)
    # thresholds fill an empty channel with 1e-12
    torch.testing.assert_close(found, wanted, rtol=1e-8 if zeta == 1 else 1e-12, atol=0)


@NAMES
@ZETAS
def test_small_gradients_cost_beta(name, beta, zeta):
    """H = beta phi^3 t^2 + ..."""
    rows, phi = with_gradient(zeta, 1e-2)
    rise = per_electron(name, rows) - per_electron("LDA_C_PW_MOD", rows)
    torch.testing.assert_close(rise, torch.full_like(rise, beta * phi**3 * 1e-4), rtol=1e-3, atol=0)


@NAMES
@ZETAS
def test_large_gradients_end_correlation(name, beta, zeta):
    del beta
    rows, _ = with_gradient(zeta, 1e4)
    found = per_electron(name, rows)
    lda = per_electron("LDA_C_PW_MOD", rows)
    assert float((found / lda).abs().max()) < 1e-3
    assert bool((found < 1e-12).all())  # never above zero


def test_the_spin_factor_enters_as_said():
    """H of eq. (7) from gamma phi^3 log(1 + ...), by the printed A."""
    eps, t2 = torch.tensor([-0.03, -0.07]).double(), torch.tensor([0.4, 2.0]).double()
    phi, gamma = 0.87, (1 - math.log(2)) / math.pi**2
    a = BETA / gamma / (torch.exp(-eps / (gamma * phi**3)) - 1)
    ratio = (1 + a * t2) / (1 + a * t2 + (a * t2) ** 2)
    wanted = gamma * phi**3 * torch.log(1 + BETA / gamma * t2 * ratio)
    found = gradient_correction(eps, t2 * phi**2, phi)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)


def test_one_electron_correlates_with_itself_a_little():
    # J. P. Perdew, S. Kurth, A. Zupan, P. Blaha, Phys. Rev. Lett. 82, 2544 (1999), table I
    assert energy("GGA_C_PBE", *one_s()) == pytest.approx(-0.0060, abs=5e-5)


def test_two_electrons_of_a_heavy_nucleus():
    """Scaled to high density the energy has a limit, -0.0479 Eh; the gas alone diverges."""
    # J. P. Perdew et al., J. Chem. Phys. 120, 6898 (2004), section IV
    heavy = [energy("GGA_C_PBE", *one_s(z, 2)) for z in (1e3, 1e4)]
    assert heavy[1] == pytest.approx(-0.0479, abs=1e-4)
    assert heavy[0] == pytest.approx(heavy[1], abs=1e-4)
    lda = [energy("LDA_C_PW", *one_s(z, 2)) for z in (1e3, 1e4)]
    assert lda[1] < lda[0] - 0.1
