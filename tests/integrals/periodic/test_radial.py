"""Numerical radial functions: transforms, norms and integrals of Gaussians in closed form."""

import numpy as np
import pytest
from pyscf import gto
from scipy.special import gamma

from deeph_zero.integrals.periodic.radial import RadialFunction, harmonics, simpson

R = np.linspace(0, 12, 1201)
WEIGHTS = simpson(np.full(len(R), R[1]))


def gaussian(l, a, end=1201):
    """Normalised r^l exp(-a r²), cut off where ``end`` says."""
    norm = np.sqrt(2 * (2 * a) ** (l + 1.5) / gamma(l + 1.5))
    values = norm * R ** (l + 1) * np.exp(-a * R**2)
    return RadialFunction(l, R[:end], values[:end], simpson(np.full(end, R[1])))


@pytest.mark.parametrize("l", [0, 1, 2, 3])
def test_norms(l):
    assert gaussian(l, 0.7).norm() == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("l", [0, 1, 2, 3])
@pytest.mark.parametrize(("a", "b"), [(0.7, 0.7), (0.4, 1.3)])
def test_overlap_and_kinetic_energy_are_pyscfs(l, a, b):
    basis = {"He": [[l, [a, 1.0]], [l, [b, 1.0]]]}
    mol = gto.M(atom="He 0 0 0", basis=basis, verbose=0)
    n = 2 * l + 1
    overlap, kinetic = gaussian(l, a).products(gaussian(l, b))
    assert overlap == pytest.approx(mol.intor("int1e_ovlp")[0, n], abs=1e-8)
    assert kinetic == pytest.approx(mol.intor("int1e_kin")[0, n], abs=1e-6)


def test_products_end_with_the_shorter_function():
    long, short = gaussian(0, 0.1), gaussian(0, 0.1, end=301)
    x = R[:301]
    wanted = (simpson(np.full(301, R[1])) * (long.values[:301] * short.values)).sum()
    assert long.products(short)[0] == pytest.approx(wanted, abs=1e-8)
    assert short.products(long)[0] == pytest.approx(wanted, abs=1e-8)
    assert x[-1] == 3.0
    assert long.products(short)[0] < 0.9


@pytest.mark.parametrize("l", [0, 1, 2, 3])
def test_transforms_are_those_of_gaussians(l):
    """(-i)^l (π/a)^(3/2) N (q/2a)^l exp(-q²/4a) Y_lm(q)."""
    a, rng = 0.8, np.random.default_rng(l)
    q = np.concatenate([np.zeros((1, 3)), 2 * rng.normal(size=(12, 3))])
    length = np.linalg.norm(q, axis=1)
    norm = np.sqrt(2 * (2 * a) ** (l + 1.5) / gamma(l + 1.5))
    radial = norm * (np.pi / a) ** 1.5 * (length / (2 * a)) ** l * np.exp(-(length**2) / (4 * a))
    wanted = (-1j) ** l * radial * harmonics(l, q, length)
    np.testing.assert_allclose(gaussian(l, a).at(q), wanted, atol=1e-8)


@pytest.mark.parametrize("l", [0, 1, 2, 3, 4])
def test_harmonics_are_orthonormal_and_in_pyscfs_order(l):
    nodes, weights = np.polynomial.legendre.leggauss(12)
    phi = 2 * np.pi * np.arange(24) / 24
    z, p = (x.ravel() for x in np.meshgrid(nodes, phi, indexing="ij"))
    rho = np.sqrt(1 - z**2)
    points = 1.7 * np.stack([rho * np.cos(p), rho * np.sin(p), z], 1)
    found = harmonics(l, points, np.full(len(points), 1.7))
    area = np.repeat(weights, 24) * 2 * np.pi / 24
    np.testing.assert_allclose((found * area) @ found.T, np.eye(2 * l + 1), atol=1e-12)
    mol = gto.M(atom="He 0 0 0", basis={"He": [[l, [0.9, 1.0]]]}, verbose=0)
    values = mol.eval_gto("GTOval_sph", points).T
    scale = np.abs(values).max() / np.abs(found).max()
    np.testing.assert_allclose(values, scale * found, atol=1e-12)


def test_harmonics_at_the_origin_are_those_along_z():
    both = harmonics(1, np.array([[0, 0, 0], [0, 0, 2.0]]), np.array([0, 2.0]))
    np.testing.assert_array_equal(both[:, 0], both[:, 1])


def test_reach_is_where_the_function_ends():
    cut = gaussian(0, 0.1, end=501)
    assert cut.reach == pytest.approx(R[500])
    reach = gaussian(0, 2.0).reach
    assert 2.5 < reach < 3.5
    assert abs(gaussian(0, 2.0).spline(reach + 0.02)) < 1e-8


@pytest.mark.parametrize("n", [5, 11, 101])
def test_simpsons_rule_is_exact_for_cubics(n):
    x = np.linspace(0, 2, n)
    weights = simpson(np.full(n, x[1]))
    for power in range(4):
        assert weights @ x**power == pytest.approx(2 ** (power + 1) / (power + 1), abs=1e-12)


def test_an_even_number_of_points_leaves_the_last_out():
    x = np.linspace(0, 2, 11)
    weights = simpson(np.full(12, x[1]))
    assert weights[-1] == 0
    np.testing.assert_allclose(weights[:-1], simpson(np.full(11, x[1])))


def test_uneven_points_have_their_own_spacing():
    """r = exp(i h) - 1: dr/di = h exp(i h)."""
    i, h = np.arange(201), 0.01
    r = np.exp(i * h) - 1
    assert simpson(h * np.exp(i * h)) @ r**2 == pytest.approx(r[-1] ** 3 / 3, rel=1e-7)
