"""Solid harmonics: harmonic, orthonormal, and differentiated without a slip."""

import math

import pytest
import torch
from pyscf.dft.gen_grid import MakeAngularGrid

from deeph_zero.ao.harmonics import (
    angular_functions,
    angular_table,
    differentiate,
    monomials,
    solid_harmonic,
)


def evaluate(polynomial, xyz):
    x, y, z = xyz.T
    return sum(c * x**i * y**j * z**k for (i, j, k), c in polynomial.items())


def products(r, l):
    return (r ** torch.tensor(monomials(l))).prod(1)


@pytest.fixture(scope="module")
def sphere():
    grid = torch.from_numpy(MakeAngularGrid(302))
    return grid[:, :3], 4 * math.pi * grid[:, 3]


def test_harmonics_are_orthonormal_on_the_sphere(sphere):
    points, weights = sphere
    rows = [evaluate(solid_harmonic(l, m), points) for l in range(7) for m in range(-l, l + 1)]
    overlap = (torch.stack(rows) * weights) @ torch.stack(rows).T
    torch.testing.assert_close(overlap, torch.eye(49, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("l", range(7))
def test_their_laplacian_vanishes(l):
    for m in range(-l, l + 1):
        total = {}
        for axis in range(3):
            twice = differentiate(differentiate(solid_harmonic(l, m), axis), axis)
            for powers, value in twice.items():
                total[powers] = total.get(powers, 0.0) + value
        assert max(map(abs, total.values()), default=0.0) < 1e-12


def test_order_and_signs_of_low_l():
    x, y, z = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    assert [list(f) for f in angular_functions(1, cart=False)] == [[x], [y], [z]]
    d = angular_functions(2, cart=False)
    assert [set(f) for f in d[:2] + d[3:4]] == [{(1, 1, 0)}, {(0, 1, 1)}, {(1, 0, 1)}]
    assert d[2][0, 0, 2] == pytest.approx(math.sqrt(5 / (4 * math.pi)))
    assert d[4][2, 0, 0] == -d[4][0, 2, 0] > 0
    assert monomials(2) == [(2, 0, 0), (1, 1, 0), (1, 0, 1), (0, 2, 0), (0, 1, 1), (0, 0, 2)]


@pytest.mark.parametrize("cart", [False, True])
@pytest.mark.parametrize("l", range(6))
def test_tables_hold_the_derivatives(l, cart):
    point = torch.tensor([0.3, -0.7, 1.1], dtype=torch.float64)

    def functions(r):
        return angular_table(l, 0, cart=cart) @ products(r, l)

    def lowered(order):
        powers = products(point, max(l - order, 0))
        return (angular_table(l, order, cart=cart) @ powers).reshape(-1, len(functions(point)))

    first = torch.func.jacfwd(functions)(point).T
    second = torch.func.jacfwd(torch.func.jacfwd(functions))(point)
    torch.testing.assert_close(lowered(1), first, rtol=1e-12, atol=1e-12)
    pairs = torch.triu_indices(3, 3)
    torch.testing.assert_close(lowered(2), second[:, *pairs].T, rtol=1e-12, atol=1e-12)
