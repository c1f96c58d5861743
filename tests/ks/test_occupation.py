"""Occupation numbers and frontier levels."""

import pytest
import torch

from deeph_zero.ks.occupation import (
    aufbau,
    evenly_filled,
    filled_levels,
    frontier,
    occupations,
    smallest_gap,
)

LEVELS = torch.tensor([[-1.0, -0.5, -0.2, 0.3], [-0.9, -0.4, -0.1, 0.5]], dtype=torch.float64)


def test_frontier_levels_of_each_spin():
    alpha, beta = frontier(LEVELS, (3, 1))
    assert (alpha.homo, alpha.lumo) == (-0.2, 0.3)
    assert alpha.gap == pytest.approx(0.5, abs=1e-15)
    assert (beta.homo, beta.lumo) == (-0.9, -0.4)
    (closed,) = frontier(LEVELS[:1], (2, 2))
    assert (closed.homo, closed.lumo) == (-0.5, -0.2)


def test_no_level_is_filled_or_none_is_empty():
    alpha, beta = frontier(LEVELS, (4, 0))
    assert (alpha.homo, alpha.lumo, alpha.gap) == (0.3, None, None)
    assert (beta.homo, beta.lumo, beta.gap) == (None, -0.9, None)


def test_levels_with_a_part_of_an_electron_count_as_filled():
    occ, degenerate = occupations(LEVELS, (3, 2), 0.35)
    assert degenerate
    assert occ.tolist() == [[1.0, 1.0, 1.0, 0.0], [1.0, 0.5, 0.5, 0.0]]
    assert filled_levels(occ) == [3, 3]
    whole, found = aufbau(LEVELS[0], 2, 0.0)
    assert (found, whole.tolist()) == (False, [1.0, 1.0, 0.0, 0.0])


def test_the_smallest_gap_of_all_spins():
    assert smallest_gap(LEVELS, (3, 2)) == pytest.approx(0.3, abs=1e-15)
    assert smallest_gap(LEVELS, (4, 1)) == pytest.approx(0.5, abs=1e-15)
    assert smallest_gap(LEVELS, (4, 0)) == float("inf")


@pytest.mark.parametrize("tol", [0.0, 1e-4, 0.15, "each its own"])
def test_many_channels_are_filled_as_each_is(tol, rng):
    for _ in range(20):
        n = int(torch.randint(1, 8, (1,), generator=rng))
        steps = 0.1 * torch.randint(0, 3, (4, n), generator=rng) + 1e-6
        levels = steps.double().cumsum(-1)
        nocc = torch.randint(0, n + 1, (4,), generator=rng)
        own = [0.0, 1e-4, 0.15, 0.25] if isinstance(tol, str) else [tol] * 4
        given = torch.tensor(own, dtype=torch.float64).unsqueeze(1) if isinstance(tol, str) else tol
        found = evenly_filled(levels, nocc, given)
        for row, one, count, width in zip(found, levels, nocc.tolist(), own, strict=True):
            assert torch.equal(row, aufbau(one, count, width)[0])
