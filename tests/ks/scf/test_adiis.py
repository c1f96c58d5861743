"""ADIIS: the exact minimum over the simplex, and coefficients that go downhill."""

import itertools

import pytest
import torch

from deeph_zero.ks.scf.adiis import adiis_coefficients, simplex_minimum


def _value(linear, quadratic, c):
    return float(c @ linear + 0.5 * c @ quadratic @ c)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shift", [-3.0, 0.0, 3.0])
def test_no_point_of_the_simplex_is_lower(seed, shift):
    """Concave, indefinite and convex problems against a lattice of the simplex."""
    generator = torch.Generator().manual_seed(seed)
    linear = torch.randn(4, generator=generator, dtype=torch.float64)
    half = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    quadratic = half + half.mT + shift * torch.eye(4, dtype=torch.float64)
    c = simplex_minimum(linear, quadratic)
    assert float(c.sum()) == pytest.approx(1.0)
    assert bool((c >= 0).all())
    steps = 20
    lattice = [
        torch.tensor(k, dtype=torch.float64) / steps
        for k in itertools.product(range(steps + 1), repeat=4)
        if sum(k) == steps
    ]
    lowest = min(_value(linear, quadratic, point) for point in lattice)
    assert _value(linear, quadratic, c) <= lowest + 1e-12


def test_interior_minimum_of_a_known_problem():
    # (c - t)²/2 with t inside the simplex
    t = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    torch.testing.assert_close(simplex_minimum(-t, torch.eye(3, dtype=torch.float64)), t)


def test_equal_builds_do_no_harm():
    same = [torch.eye(2, dtype=torch.float64)] * 3
    c = adiis_coefficients(same, same)
    assert float(c.sum()) == pytest.approx(1.0)


def test_a_quadratic_energy_is_minimised_exactly(rng):
    """With E = tr(hP) + ½ tr(P G(P)) the model is exact, so no mixture has a lower energy."""
    h, *dms = torch.randn(4, 3, 3, generator=rng, dtype=torch.float64)
    dms = [d + d.mT for d in dms]
    h = h + h.mT
    kernel = torch.randn(9, 9, generator=rng, dtype=torch.float64)
    kernel = kernel @ kernel.mT

    def fock(dm):
        return h + (kernel @ dm.reshape(-1)).reshape(3, 3)

    def energy(c):
        dm = sum(ck * d for ck, d in zip(c, dms, strict=True))
        return float((h * dm).sum() + 0.5 * ((fock(dm) - h) * dm).sum())

    best = energy(adiis_coefficients(dms, [fock(d) for d in dms]))
    for a, b in itertools.product(torch.linspace(0, 1, 21), repeat=2):
        if a + b <= 1:
            assert best <= energy([a, b, 1 - a - b]) + 1e-9


def test_only_the_last_eight_are_used():
    generator = torch.Generator().manual_seed(3)
    matrices = torch.randn(11, 2, 2, 2, generator=generator, dtype=torch.float64)
    c = adiis_coefficients(list(matrices[:, 0]), list(matrices[:, 1]))
    assert c.shape == (11,)
    assert bool((c[:3] == 0).all())
