"""Coulomb potentials, gradients and interpolation on a skewed mesh against plane waves."""

import itertools
import math

import pytest
import torch

from deeph_zero.ks.periodic.mesh import Mesh, half_spectrum

SHAPE = (6, 5, 8)
LATTICE = torch.tensor([[4.0, 0.3, -0.2], [0.5, 5.0, 0.1], [-0.4, 0.2, 3.0]], dtype=torch.float64)
WAVES = [(1, 0, 0), (2, -1, 3), (-1, 2, 1), (0, 0, -3)]


def mesh(shape=SHAPE):
    reciprocal = 2 * math.pi * torch.linalg.inv(LATTICE).mT
    counts = [torch.fft.fftfreq(n, 1 / n, dtype=torch.float64) for n in shape]
    g = torch.stack(torch.meshgrid(*counts, indexing="ij"), -1) @ reciprocal
    square = g.square().sum(-1)
    kernel = torch.where(square > 0, 4 * math.pi / square.clamp_min(1e-30), 0.0)
    volume = float(torch.linalg.det(LATTICE).abs())
    kernel = half_spectrum(kernel)
    return Mesh(shape=shape, volume=volume, reciprocal=reciprocal, kernel=kernel)


def wave(numbers, shape=SHAPE, phase=0.4):
    """cos(G·r + phase), its gradient, and G²."""
    one = mesh(shape)
    fractions = [torch.arange(n, dtype=torch.float64) / n for n in shape]
    r = torch.stack(torch.meshgrid(*fractions, indexing="ij"), -1).reshape(-1, 3) @ LATTICE
    g = torch.tensor(numbers, dtype=torch.float64) @ one.reciprocal
    angle = r @ g + phase
    return torch.cos(angle), -g.unsqueeze(-1) * torch.sin(angle), float(g @ g)


@pytest.mark.parametrize("numbers", WAVES)
def test_a_wave_has_its_own_potential_and_gradient(numbers):
    rho, gradient, square = wave(numbers)
    one = mesh()
    torch.testing.assert_close(one.coulomb(rho), 4 * math.pi / square * rho, rtol=0, atol=1e-12)
    torch.testing.assert_close(one.gradient(rho), gradient, rtol=0, atol=1e-12)


def test_the_highest_wave_of_an_even_axis_has_no_gradient():
    rho, _, _ = wave((3, 0, 0), phase=0.0)
    assert float(rho.abs().max()) == pytest.approx(1.0)
    assert float(mesh().gradient(rho).abs().max()) < 1e-12


def test_fields_of_a_coarser_mesh_are_interpolated_exactly():
    fine = (9, 6, 11)
    coarse = mesh((6, 5, 7))
    for numbers in [(2, -2, 3), (-1, 0, -2), (0, 0, 0)]:
        own, *_ = wave(numbers, coarse.shape)
        wanted, *_ = wave(numbers, fine)
        torch.testing.assert_close(mesh(fine).resample(own, coarse), wanted, rtol=0, atol=1e-12)


def test_an_uneven_kernel_does_what_its_real_part_does():
    """As PySCF's at k-points: the real part of the complex transform is meant."""
    generator = torch.Generator().manual_seed(1)
    for shape in itertools.product((3, 4), repeat=3):
        kernel, field = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        wanted = torch.fft.ifftn(torch.fft.fftn(field) * kernel).real
        found = torch.fft.irfftn(torch.fft.rfftn(field) * half_spectrum(kernel), s=shape)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)


def test_weights_add_up_to_the_cell():
    one = mesh()
    assert one.ngrids * one.weight == pytest.approx(one.volume)
