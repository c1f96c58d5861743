"""Perdew's 1986 correlation: the gas below it, its gradient coefficient and spin factor."""

import math

import pytest
import torch

from deeph_zero.ks.xc.gga_c_p86 import gradient_term

from .rows import density_of, energy, one_s, per_electron, uniform_gas

RS = torch.tensor([0.2, 1.0, 6.0], dtype=torch.float64)


@pytest.mark.parametrize("zeta", [None, 0.3, 1.0])
def test_without_gradient_it_is_perdews_and_zungers_gas(zeta):
    rows = uniform_gas(density_of(RS), zeta)
    found, wanted = per_electron("GGA_C_P86", rows), per_electron("LDA_C_PZ", rows)
    torch.testing.assert_close(found, wanted, rtol=1e-13, atol=0)


def term(rs, sigma):
    n = density_of(rs)
    return gradient_term(torch.as_tensor(rs).double().reshape(-1), n, n ** (1 / 3), sigma)


def test_the_coefficient_of_small_gradients():
    """C(n) of eq. (6): 0.004235 in the dense gas, 0.001667 in the thin one."""
    sigma = torch.tensor([1e-14]).double()
    for rs, wanted in ((1e-7, 0.001667 + 0.002568), (1e9, 0.001667)):
        small = sigma * float(density_of(rs) ** (7 / 3))
        found = float(term(rs, small)) / 1e-14
        assert found == pytest.approx(wanted, rel=1e-4)
    rs = 2.0
    c = 0.001667 + (0.002568 + 0.023266 * rs + 7.389e-6 * rs**2) / (
        1 + 8.723 * rs + 0.472 * rs**2 + 7.389e-2 * rs**3
    )
    small = sigma * float(density_of(rs) ** (7 / 3))
    assert float(term(rs, small)) / 1e-14 == pytest.approx(c, rel=1e-5)


def test_large_gradients_are_damped():
    """exp(-Phi) with Phi = 1.745 * 0.11 C(inf) / C(n) |grad n| / n^(7/6)."""
    n = density_of(1.0)
    sigma = torch.tensor([4.0]).double() * n ** (7 / 3)
    c = float(term(1.0, 1e-18 * n ** (7 / 3))) / 1e-18
    phi = 1.745 * 0.11 * 0.004235 / c * 2.0
    assert float(term(1.0, sigma)) == pytest.approx(4.0 * c * math.exp(-phi), rel=1e-6)
    assert float(term(1.0, 1e8 * n ** (7 / 3))) < 1e-100


@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0])
def test_spins_divide_it_by_d(zeta):
    """d = 2^(1/3) sqrt(((1+z)/2)^(5/3) + ((1-z)/2)^(5/3)); the erratum's 2^(1/3) makes d(0) = 1."""
    density = density_of(RS)
    rows = uniform_gas(density, zeta)
    rows[:, 1] = 0.2 * rows[:, 0]
    found = per_electron("GGA_C_P86", rows) - per_electron("LDA_C_PZ", rows)
    d = 2 ** (1 / 3) * math.sqrt(((1 + zeta) / 2) ** (5 / 3) + ((1 - zeta) / 2) ** (5 / 3))
    wanted = term(RS, (0.2 * density) ** 2) / d
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=0)


def test_two_electrons():
    """More than the exact -0.042 Eh of helium, about as PBE, a fraction of the gas's -0.11."""
    found = energy("GGA_C_P86", *one_s(1.6875, 2))
    assert -0.048 < found < -0.044
