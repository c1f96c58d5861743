"""Becke's power series: the series itself, the gas below it, and each channel alone."""

import math

import pytest
import torch

from deeph_zero.ks.xc.attenuation import erf_attenuation
from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.functional import SemilocalFunctional
from deeph_zero.ks.xc.gga_xc_b97 import COMPONENTS, PowerSeries, power_series

from .rows import density_of, energy_density, one_s, uniform_gas

RS = torch.tensor([0.6, 2.0, 8.0], dtype=torch.float64)
NAMES = [component.name for component in COMPONENTS]
LONG_RANGE = {
    "HYB_GGA_XC_WB97": (1.0, 0.4),
    "HYB_GGA_XC_WB97X": (0.842294, 0.3),
    "HYB_GGA_XC_WB97X_D": (0.777964, 0.2),
    "HYB_GGA_XC_WB97X_D3": (0.804272, 0.25),
}
"""Share of the gas's short-range exchange, and omega: the papers' c_x0 and range parameters."""


def test_the_series_is_a_polynomial_of_u():
    x2 = torch.tensor([0.0, 3.0, 1e12], dtype=torch.float64)
    u = 0.004 * x2 / (1 + 0.004 * x2)
    torch.testing.assert_close(
        power_series((0.8, 0.5, -2.0), 0.004, x2), 0.8 + 0.5 * u - 2 * u**2, rtol=1e-13, atol=0
    )
    assert float(power_series((0.8, 0.5, -2.0), 0.004, x2)[2]) == pytest.approx(-0.7, abs=1e-9)
    assert power_series((3.0,), 0.2, x2).tolist() == [3.0] * 3


@pytest.mark.parametrize("name", LONG_RANGE)
def test_the_gas_of_the_range_separated_ones_is_exact(name):
    """Correlation of the gas in full, and its share of attenuated exchange."""
    density = density_of(RS)
    rows = uniform_gas(density)
    share, omega = LONG_RANGE[name]
    k_f = (3 * math.pi**2 * density) ** (1 / 3)
    exchange = energy_density("LDA_X", rows) * erf_attenuation(omega / (2 * k_f))
    wanted = share * exchange + energy_density("LDA_C_PW", rows)
    torch.testing.assert_close(energy_density(name, rows), wanted, rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_spins_change_places(name):
    rows, _ = one_s(1.3, 2)
    rows[1, :4] *= torch.tensor([0.3, 0.5, 0.0, 0.0]).double()[:, None]
    one, other = (energy_density(name, x) for x in (rows, rows.flip(0)))
    assert float(one.abs().max()) > 1e-2
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-18)


def test_one_spin_has_no_partner():
    """Correlation between channels vanishes for one electron; its own does not."""
    rows, weights = one_s()

    def energy(same, opposite):
        series = PowerSeries((0.0,), same, opposite)
        component = Component(
            name="X", libxc_id=0, kind="GGA", threshold=1e-14,
            closed_shell=series.closed_shell, polarised=series.polarised,
        )  # fmt: skip
        functional = SemilocalFunctional([(component, 1.0)], unrestricted=True)
        return float(functional.gradient(rows[:, :4].contiguous())[0] @ weights)

    assert energy((0.0,), (1.0,)) == pytest.approx(0, abs=1e-12)
    assert energy((1.0,), (0.0,)) == pytest.approx(-0.0222, abs=5e-5)  # LDA of hydrogen


def test_channels_of_a_closed_shell_add_up_to_the_gas():
    density = density_of(RS)
    rows = uniform_gas(density)
    series = PowerSeries((0.0,), (1.0,), (1.0,))
    rho = density / 2
    one, uniform, x2 = series.channel(rho, rho ** (1 / 3), torch.zeros_like(rho))
    torch.testing.assert_close(one, uniform, rtol=1e-13, atol=0)
    assert not x2.any()
    whole = energy_density("LDA_C_PW", rows)
    assert bool((2 * uniform > whole).all())  # what is left is between the channels
