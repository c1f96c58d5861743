"""Densities of states against cosine bands, summed densely."""

import numpy as np
import pytest

from deeph_zero.integrals.periodic.kpoints import make_kpoints
from deeph_zero.predict.density_of_states import density_of_states

WIDTH = 0.005


def bands(scaled):
    """Two that cross the Fermi level at 0, steep and not symmetric about it: [1, nk, 2]."""
    x, y, z = 2 * np.pi * scaled.T
    first = -0.05 + 0.2 * np.cos(x) + 0.12 * np.cos(y) - 0.1 * np.cos(z) * np.cos(x)
    second = 0.1 - 0.15 * np.cos(x + y) + 0.1 * np.cos(z)
    return np.sort(np.stack([first, second], -1))[None]


def summed(grid, levels, weights):
    z = (grid[:, None, None] - levels) / WIDTH
    return (np.exp(-0.5 * z**2) / (WIDTH * np.sqrt(2 * np.pi)) * weights[:, None]).sum((1, 2))


@pytest.mark.parametrize(
    ("mesh", "best"), [((30, 1, 1), 0.02), ((30, 25, 1), 0.006), ((10, 9, 8), 0.04)]
)
def test_it_is_the_sum_over_many_k_points(mesh, best):
    """From points between which bands climb by several widths."""
    few, many = (make_kpoints([f * n if n > 1 else 1 for n in mesh]) for f in (1, 5))
    grid, found = density_of_states(few, bands(few.scaled), WIDTH, fermi=0.0)
    wanted = summed(grid[::20], bands(many.scaled)[0], many.weights)
    at_points = summed(grid[::20], bands(few.scaled)[0], few.weights)
    error = np.abs(found[0, ::20] - wanted).mean() / wanted.mean()
    assert error < best
    assert np.abs(at_points - wanted).mean() / wanted.mean() > 4 * error


def test_one_of_k_and_minus_k_is_enough():
    every, half = (make_kpoints((4, 3, 2), time_reversal=t) for t in (False, True))
    assert len(half.scaled) < len(every.scaled)
    _, wanted = density_of_states(every, bands(every.scaled), WIDTH)
    _, found = density_of_states(half, bands(half.scaled), WIDTH)
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_states_are_as_many_as_levels():
    kpoints = make_kpoints((5, 4, 3))
    two = np.concatenate([bands(kpoints.scaled), bands(kpoints.scaled) + 0.3])
    grid, found = density_of_states(kpoints, two, WIDTH, per_level=2.0)
    assert found.shape == (2, len(grid))
    np.testing.assert_allclose(found.sum(1) * (grid[1] - grid[0]), 4.0, rtol=1e-8)


def test_a_level_by_itself_is_its_gaussian():
    """Also where levels are so far apart that a thousand energies would miss it: a core's."""
    kpoints = make_kpoints((1, 1, 1))
    grid, found = density_of_states(kpoints, np.array([[[-19.98765, 0.1, 0.4]]]), WIDTH)
    assert grid[1] - grid[0] <= 0.51 * WIDTH
    core = grid < -15
    wanted = np.exp(-0.5 * ((grid[core] + 19.98765) / WIDTH) ** 2) / (WIDTH * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found[0, core], wanted, atol=2e-3 * wanted.max())


def test_levels_that_are_not_there_count_nothing():
    """Functions that depend on each other leave fewer levels at some points."""
    kpoints = make_kpoints((4, 1, 1))
    levels = np.array([[[-0.2, 0.3], [-0.2, np.inf], [-0.2, np.inf]]])
    grid, found = density_of_states(kpoints, levels, WIDTH)
    below = grid < 0.0
    assert found[0, below].sum() * (grid[1] - grid[0]) == pytest.approx(1.0, rel=1e-8)
    assert np.isfinite(found).all()


def test_levels_between_points_are_no_more_than_fit(monkeypatch):
    """A small width would want a thousand of them along every axis."""
    monkeypatch.setattr("deeph_zero.predict.density_of_states._SAMPLES", 20_000)
    kpoints = make_kpoints((6, 6, 6))
    grid, found = density_of_states(kpoints, bands(kpoints.scaled), 1e-4, fermi=0.0)
    assert found.sum() * (grid[1] - grid[0]) == pytest.approx(2.0, rel=1e-6)
