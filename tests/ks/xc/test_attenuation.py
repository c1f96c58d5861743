"""Short-range exchange of the gas: the closed form against the integral over its hole."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import erfc

from deeph_zero.ks.xc.attenuation import SERIES_START, erf_attenuation

from .rows import slope_of


def share(a: float) -> float:
    """∫ hole(r) erfc(omega r) / r over the whole, with k_F = 1 and so omega = 2 a."""

    def hole(r: float) -> float:
        j1 = (math.sin(r) - r * math.cos(r)) / r**2 if r > 1e-3 else r / 3
        return r * (3 * j1 / r) ** 2

    end = 12 / (2 * a)  # erfc is nothing beyond
    part = quad(lambda r: hole(r) * erfc(2 * a * r), 0, end, limit=400, epsabs=1e-13)[0]
    return part / 2.25  # ∫ r (3 j1 / r)^2 dr = 9/4


@pytest.mark.parametrize("a", [0.05, 0.4, 1.0, 1.34, 1.36, 3.0, 12.0])
def test_the_share_is_that_of_the_hole(a):
    found = float(erf_attenuation(torch.tensor([a], dtype=torch.float64)))
    assert found == pytest.approx(share(a), rel=2e-8)


def test_ends():
    small, large = erf_attenuation(torch.tensor([1e-9, 1e5], dtype=torch.float64))
    assert float(small) == pytest.approx(1 - 8 / 3 * math.sqrt(math.pi) * 1e-9, abs=1e-13)
    assert float(large) == pytest.approx(1 / 36e10, rel=1e-9)


def test_it_falls_smoothly_across_the_series():
    near = torch.tensor(np.array([-1e-9, 0.0, 1e-9]) + SERIES_START)
    values, slopes = erf_attenuation(near), slope_of(erf_attenuation, near)
    assert float(values[0] - values[2]) == pytest.approx(-2e-9 * float(slopes[1]), abs=1e-13)
    torch.testing.assert_close(slopes[0], slopes[2], rtol=1e-7, atol=0)
    a = torch.logspace(-3, 3, 200, dtype=torch.float64)
    assert bool((erf_attenuation(a).diff() < 0).all())
