"""Lee, Yang and Parr's correlation: with and without second derivatives; no self-correlation."""

import numpy as np
import pytest
import torch

from .rows import K_F, density_of, energy, energy_density, one_s, uniform_gas

A, B, C, D = 0.04918, 0.132, 0.2533, 0.349


def gaussian_shell(points=160):
    """Closed-shell rows of a sum of two Gaussians, the Laplacian of the density, and weights."""
    t, w = np.polynomial.legendre.leggauss(points)
    r = (1 + t) / (1 - t)
    weights = 4 * np.pi * r**2 * 2 * w / (1 - t) ** 2
    n, slope, laplacian = np.zeros(points), np.zeros(points), np.zeros(points)
    for a, c in ((0.7, 0.5), (2.3, 1.9)):
        g = c * np.exp(-a * r**2)
        n, slope = n + g, slope - 2 * a * r * g
        laplacian += (4 * a**2 * r**2 - 6 * a) * g
    inside = n > 1e-12
    rows = np.zeros((1, 5, int(inside.sum())))
    rows[0, 0], rows[0, 1] = n[inside], slope[inside]
    return torch.from_numpy(rows), laplacian[inside], weights[inside]


def test_the_first_form_has_the_same_energy():
    """Eq. (22) of the paper, with the Laplacian: equal after integration, not point by point."""
    rows, laplacian, weights = gaussian_shell()
    n, slope = rows[0, 0].numpy(), rows[0, 1].numpy()
    t_w = (slope**2 / n - laplacian) / 8
    inner = 0.3 * K_F * n ** (5 / 3) - 2 * t_w + (t_w / 9 + laplacian / 18)
    damping = 1 / (1 + D * n ** (-1 / 3))
    first = -A * damping * (n + B * n ** (-2 / 3) * inner * np.exp(-C * n ** (-1 / 3)))
    second = energy_density("GGA_C_LYP", rows).numpy()
    assert np.abs(first - second).max() > 1e-3
    assert second @ weights == pytest.approx(first @ weights, rel=1e-8)


@pytest.mark.parametrize("spin", [0, 1])
def test_electrons_of_one_spin_do_not_correlate(spin):
    rows, weights = one_s()
    rows = rows if spin == 0 else rows.flip(0)
    assert energy("GGA_C_LYP", rows, weights) == pytest.approx(0, abs=1e-11)
    gas = uniform_gas(density_of(torch.tensor([0.5, 3.0])), 1.0 - 2.0 * spin)
    assert energy_density("GGA_C_LYP", gas).abs().max() < 1e-13


def test_two_electrons_like_heliums():
    # the paper's table I has -0.0438 Eh with the Hartree-Fock density, which this one is close to
    rows, weights = one_s(1.6875, 2)
    found = energy("GGA_C_LYP", rows, weights)
    assert found == pytest.approx(-0.0438, abs=2e-4)
    closed = rows.sum(0, keepdim=True)
    assert energy("GGA_C_LYP", closed, weights) == pytest.approx(found, rel=1e-11)


def test_spins_change_places():
    rows, _ = one_s(1.3, 2)
    rows[1, :4] *= torch.tensor([0.3, 0.5, 0.0, 0.0]).double()[:, None]
    rows[1, 2] = 0.1 * rows[0, 0]
    one, other = (energy_density("GGA_C_LYP", x) for x in (rows, rows.flip(0)))
    assert float(one.abs().max()) > 1e-3
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-18)
