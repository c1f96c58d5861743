"""Short-range Becke exchange: between the whole of it and nothing, and the gas's share."""

import math

import pytest
import torch

from deeph_zero.ks.xc.attenuation import erf_attenuation
from deeph_zero.ks.xc.functional import SemilocalFunctional
from deeph_zero.ks.xc.gga_x_ityh import COMPONENTS, VARIANTS, short_range_becke

from .rows import density_of, energy_density, one_s, uniform_gas


def values(omega, rows):
    functional = SemilocalFunctional([(short_range_becke(omega), 1.0)], unrestricted=len(rows) == 2)
    return functional.gradient(rows[:, :4].contiguous())[0]


def test_without_screening_it_is_beckes():
    rows, _ = one_s(1.2, 2)
    wanted = energy_density("GGA_X_B88", rows)
    torch.testing.assert_close(values(1e-9, rows), wanted, rtol=1e-5, atol=1e-15)


def test_screening_takes_away():
    rows, weights = one_s()
    energies = [float(values(omega, rows) @ weights) for omega in (0.1, 0.33, 1.0, 5.0, 50.0)]
    assert energies == sorted(energies)
    assert energies[-1] < 0
    # 1 / (36 a^2) for large a, a proportional to omega
    assert energies[-2] / energies[-1] == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("omega", [0.2, 0.33, 0.9])
def test_the_gas_has_its_share(omega):
    density = density_of(torch.tensor([0.7, 3.0]))
    k_f = (3 * math.pi**2 * density) ** (1 / 3)
    wanted = energy_density("LDA_X", uniform_gas(density)) * erf_attenuation(omega / (2 * k_f))
    found = values(omega, uniform_gas(density))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_names_say_what_they_are():
    assert [(c.name, c.libxc_id) for c in COMPONENTS] == [("GGA_X_ITYH", 529)]
    rows, _ = one_s()
    functional = SemilocalFunctional([(VARIANTS["GGA_X_ITYH(0.33)"], 1.0)], unrestricted=True)
    found = functional.gradient(rows[:, :4].contiguous())[0]
    torch.testing.assert_close(found, values(0.33, rows), rtol=0, atol=0)
