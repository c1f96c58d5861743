"""RPBE exchange: PBE's constants in another shape."""

import pytest
import torch

from .rows import energy, enhancement, one_s

S = torch.tensor([0.0, 1e-3, 0.4, 1.5, 3.0, 30.0], dtype=torch.float64)
KAPPA, MU = 0.804, 0.2195149727645171


def test_enhancement_is_the_printed_one():
    wanted = 1 + KAPPA * (1 - torch.exp(-MU * S**2 / KAPPA))
    torch.testing.assert_close(enhancement("GGA_X_RPBE", S), wanted, rtol=1e-13, atol=0)


def test_it_starts_as_pbe_and_keeps_its_bound():
    rpbe, pbe = enhancement("GGA_X_RPBE", S), enhancement("GGA_X_PBE", S)
    assert float(rpbe[1] - pbe[1]) == pytest.approx(0, abs=1e-12)
    assert bool((rpbe[2:] > pbe[2:]).all())
    assert float(rpbe[-1]) == pytest.approx(1.804, abs=1e-12)


def test_hydrogen():
    # S. Kurth, J. P. Perdew, P. Blaha, Int. J. Quantum Chem. 75, 889 (1999), table I
    assert energy("GGA_X_RPBE", *one_s()) == pytest.approx(-0.3112, abs=5e-5)
    assert energy("GGA_X_RPBE", *one_s(3.0)) == pytest.approx(3 * -0.3112, abs=2e-4)
