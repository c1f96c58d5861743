"""TPSS exchange: the hydrogen atom exactly, the gas, and the expansion of slow densities."""

import math

import pytest
import torch

from .rows import K_F, energy, energy_density, enhancement, one_s, uniform_gas

DENSITY = torch.tensor([0.01, 0.7, 30.0], dtype=torch.float64)


@pytest.mark.parametrize("charge", [1.0, 4.0])
def test_hydrogen_like_atoms_are_exact(charge):
    assert energy("MGGA_X_TPSS", *one_s(charge)) == pytest.approx(-0.3125 * charge, rel=1e-6)


def test_two_electrons_of_a_nucleus_are_exact():
    """Half of the Coulomb energy of two electrons in one orbital: -5 Z / 8."""
    assert energy("MGGA_X_TPSS", *one_s(2.0, 2)) == pytest.approx(-1.25, rel=1e-6)


def test_the_gas_has_no_enhancement():
    rows = uniform_gas(DENSITY)
    torch.testing.assert_close(
        energy_density("MGGA_X_TPSS", rows), energy_density("LDA_X", rows), rtol=1e-13, atol=0
    )


def test_slow_densities_have_the_gradient_expansion():
    """F = 1 + 10/81 p + ... where tau is that of the second-order expansion, with p and q small."""
    s = torch.tensor([0.02, 0.04], dtype=torch.float64)
    p = s**2
    n = torch.full_like(s, 0.6)
    rows = uniform_gas(n)
    rows[0, 1] = 2 * math.sqrt(K_F) * n ** (4 / 3) * s
    # tau = tau_unif (1 + 5 p / 27 + 20 q / 9), q chosen so that q_b = 0: alpha = 1 - 20 p / 27
    rows[0, 4] *= 1 + 5 / 3 * p - 20 / 27 * p
    found = energy_density("MGGA_X_TPSS", rows) / energy_density("LDA_X", rows) - 1
    torch.testing.assert_close(found / p, torch.full_like(p, 10 / 81), rtol=2e-2, atol=0)


def test_the_bound_of_pbe_is_kept():
    s = torch.tensor([0.0, 1.0, 5.0, 50.0, 1e4], dtype=torch.float64)
    found = enhancement("MGGA_X_TPSS", s)
    assert bool((found <= 1.804).all())
    assert float(found[-1]) == pytest.approx(1.804, abs=1e-6)
