"""Slater exchange: its formula, its scaling laws and the hydrogen atom."""

import math

import pytest
import torch

from .rows import density_of, energy, energy_density, one_s, uniform_gas

DENSITIES = torch.tensor([2e-3, 0.013, 0.3, 7.0, 4e3], dtype=torch.float64)


def by_hand(n):
    return -0.75 * (3 / math.pi) ** (1 / 3) * n ** (4 / 3)


def test_a_closed_shell_has_diracs_energy():
    found = energy_density("LDA_X", uniform_gas(DENSITIES))
    torch.testing.assert_close(found, by_hand(DENSITIES), rtol=1e-13, atol=0)
    # as textbooks have it: -3 (9/4)^(1/3) / (4 pi^(2/3) rs) per electron
    per_electron = energy_density("LDA_X", uniform_gas(density_of(1.0))) / density_of(1.0)
    assert float(per_electron) == pytest.approx(-0.458165293283143, rel=1e-13)


@pytest.mark.parametrize("zeta", [-1.0, -0.3, 0.0, 0.6, 1.0])
def test_spins_exchange_by_themselves(zeta):
    found = energy_density("LDA_X", uniform_gas(DENSITIES, zeta))
    share = ((1 + zeta) ** (4 / 3) + (1 - zeta) ** (4 / 3)) / 2
    # an empty channel keeps the threshold of 1e-15
    torch.testing.assert_close(found, share * by_hand(DENSITIES), rtol=1e-12, atol=0)


def test_the_energy_scales_as_a_length():
    rows, weights = one_s(2.5)
    assert energy("LDA_X", rows, weights) == pytest.approx(2.5 * energy("LDA_X", *one_s()))


def test_hydrogen():
    # S. Kurth, J. P. Perdew, P. Blaha, Int. J. Quantum Chem. 75, 889 (1999), table I
    assert energy("LDA_X", *one_s()) == pytest.approx(-0.2680, abs=5e-5)
