"""Becke's exchange: the printed formula, an atom's tail, and x asinh x where it has two forms."""

import math

import pytest
import torch

from deeph_zero.ks.xc.gga_x_b88 import asinh_ratio, x_asinh_x

from .rows import K_F, energy, energy_density, enhancement, one_s

BETA = 0.0042


def test_energy_is_the_printed_formula():
    s = torch.tensor([0.0, 0.2, 1.0, 4.0, 50.0], dtype=torch.float64)
    x = 2 * math.sqrt(K_F) * 2 ** (1 / 3) * s  # |grad rho_s| / rho_s^(4/3) of one spin
    lda = -1.5 * (3 / (4 * math.pi)) ** (1 / 3)
    wanted = 1 - BETA * x**2 / (1 + 6 * BETA * x * torch.asinh(x)) / lda
    torch.testing.assert_close(enhancement("GGA_X_B88", s), wanted, rtol=1e-13, atol=0)


def test_far_from_an_atom_the_hole_stays_behind():
    """Energy per electron -> -1 / (2 r), slowly, where that of PBE falls with the density."""
    rows, _ = one_s(points=400)
    far = (rows[0, 0] > 1e-12) & (rows[0, 0] < 1e-8)
    n = rows[0, 0][far]
    distance = -0.5 * torch.log(n * math.pi)
    assert float(distance[-1] - distance[0]) > 3
    becke, pbe = (energy_density(name, rows)[far] / n for name in ("GGA_X_B88", "GGA_X_PBE"))
    share = becke * -2 * distance
    assert bool((share.diff() > 0).all())
    assert 0.8 < float(share[-1]) < 1.0
    assert float((pbe / becke)[-1]) < 0.01


def test_hydrogen():
    # S. Kurth, J. P. Perdew, P. Blaha, Int. J. Quantum Chem. 75, 889 (1999), table I
    assert energy("GGA_X_B88", *one_s()) == pytest.approx(-0.3098, abs=5e-5)


def test_asinh_over_its_argument():
    x = torch.tensor([1e-9, 0.1, 0.2236, 0.2237, 3.0, 1e6], dtype=torch.float64)
    torch.testing.assert_close(asinh_ratio(x * x), torch.asinh(x) / x, rtol=1e-13, atol=0)
    assert float(asinh_ratio(torch.zeros(1, dtype=torch.float64))) == 1.0


def test_x_asinh_x_is_smooth_across_its_two_branches() -> None:
    u = torch.tensor([0.0, 1e-40, 1e-9, 0.049999, 0.05, 0.050001, 0.3], dtype=torch.float64)
    u.requires_grad_()
    value = x_asinh_x(u)
    expected = torch.sqrt(u) * torch.asinh(torch.sqrt(u))
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=0)
    first = torch.autograd.grad(value.sum(), u, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), u, create_graph=True)[0]
    third = torch.autograd.grad(second.sum(), u)[0]
    # x asinh x = u - u^2/6 + 3 u^3/40 - ...
    assert first[0].item() == pytest.approx(1.0, abs=1e-15)
    assert second[0].item() == pytest.approx(-1 / 3, abs=1e-15)
    assert third[0].item() == pytest.approx(18 / 40, abs=1e-14)
    for derivative in (first, second, third):
        torch.testing.assert_close(derivative[3], derivative[5], rtol=1e-4, atol=0)
        # linear interpolation across the seam
        middle = (derivative[3] + derivative[5]) / 2
        torch.testing.assert_close(derivative[4], middle, rtol=1e-9, atol=0)
