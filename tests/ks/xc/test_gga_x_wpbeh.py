"""Screened PBE exchange: PBE itself without screening, the gas's share, and its two forms."""

import math

import pytest
import torch

from deeph_zero.ks.xc.attenuation import erf_attenuation
from deeph_zero.ks.xc.functional import SemilocalFunctional
from deeph_zero.ks.xc.gga_x_wpbeh import screened_pbe

from .rows import K_F, energy, energy_density, enhancement, one_s, uniform_gas

DENSITY = torch.tensor([0.02, 0.4, 5.0], dtype=torch.float64)


def values(omega, rows):
    functional = SemilocalFunctional([(screened_pbe(omega), 1.0)], unrestricted=len(rows) == 2)
    return functional.gradient(rows[:, :4].contiguous())[0]


def test_the_whole_hole_has_pbes_energy():
    """The hole was modelled after F(s) of PBE, to half a percent over the s of atoms."""
    s = torch.linspace(0.0, 4.0, 30, dtype=torch.float64)
    found, wanted = enhancement("GGA_X_WPBEH", s), enhancement("GGA_X_PBE", s)
    torch.testing.assert_close(found, wanted, rtol=6e-3, atol=0)
    atom = energy("GGA_X_WPBEH", *one_s()), energy("GGA_X_PBE", *one_s())
    assert atom[0] == pytest.approx(atom[1], rel=2e-3)


@pytest.mark.parametrize("omega", [0.11, 0.4, 1.0])
def test_the_gas_has_its_share(omega):
    rows = uniform_gas(DENSITY)
    k_f = (3 * math.pi**2 * DENSITY) ** (1 / 3)
    wanted = energy_density("LDA_X", rows) * erf_attenuation(omega / (2 * k_f))
    torch.testing.assert_close(values(omega, rows), wanted, rtol=5e-3, atol=0)


def test_little_screening_is_close_to_none():
    rows, _ = one_s(1.0, 2)
    thick = rows[..., rows[0, 0] > 1e-4]
    none, little = values(0.0, thick), values(1e-5, thick)
    torch.testing.assert_close(little, none, rtol=5e-4, atol=0)
    assert bool((little > none).all())


def test_screening_takes_away():
    rows = uniform_gas(DENSITY)
    rows[0, 1] = DENSITY ** (4 / 3)
    found = torch.stack([values(omega, rows) for omega in (0.0, 0.1, 0.5, 2.0, 20.0)])
    assert bool((found.diff(dim=0) > 0).all())
    assert bool((found < 0).all())


def test_both_forms_of_the_integral_meet():
    """w = omega / k_F = 14 is where the fit of eight powers gives way to one Gaussian."""
    omega = 3.0
    k_f = torch.tensor([omega / 13.99, omega / 14.01], dtype=torch.float64)
    density = k_f**3 / (3 * math.pi**2)
    rows = uniform_gas(density)
    rows[0, 1] = 2 * math.sqrt(K_F) * density ** (4 / 3)
    scaled = values(omega, rows) / density ** (4 / 3) / k_f**2  # falls with 1 / w^2
    assert float(scaled[0] / scaled[1]) == pytest.approx(1, abs=5e-3)


def test_steep_densities_have_a_largest_gradient():
    s = torch.tensor([8.0, 14.9, 15.1, 1e4], dtype=torch.float64)
    found = enhancement("GGA_X_WPBEH", s)
    assert bool((found < 1.81).all())
    assert float(found[1]) == pytest.approx(float(found[3]), rel=1e-2)
    assert float(found[2]) == float(found[3])
