"""Conjugate gradients against dense solutions."""

from itertools import islice

import pytest
import torch

from deeph_zero.ks.linalg.conjugate_gradients import solve, steps


def _system(size=12, seed=0, lowest=0.3):
    generator = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    values = torch.linspace(lowest, 6.0, size, dtype=torch.float64)
    rhs = torch.randn(3, size, generator=generator, dtype=torch.float64)
    return (u * values) @ u.mT, rhs


def _solved(a, rhs, **given):
    diagonal = a.diagonal().abs()
    settings = {"goal": 1e-11 * rhs.norm(dim=-1), "max_steps": 60} | given
    return solve(lambda x: x @ a, rhs, precondition=lambda r: r / diagonal, **settings)


def test_several_systems_are_solved():
    a, rhs = _system()
    found = _solved(a, rhs)
    assert found.converged
    assert found.definite
    torch.testing.assert_close(found.x, torch.linalg.solve(a, rhs.mT).mT, atol=1e-10, rtol=0)


def test_an_indefinite_system_is_solved_and_said_so():
    a, rhs = _system(lowest=-0.7)
    found = _solved(a, rhs)
    assert not found.definite
    torch.testing.assert_close(found.x, torch.linalg.solve(a, rhs.mT).mT, atol=1e-8, rtol=0)


def test_finished_systems_cost_no_product():
    a, rhs = _system()
    asked = []

    def product(x):
        asked.append(len(x))
        return x @ a

    goal = torch.tensor([1e-11, 1e3, 1e-2], dtype=torch.float64)
    found = solve(product, rhs, precondition=lambda r: r, goal=goal, max_steps=60)
    assert asked[0] == 2
    assert asked[-1] == 1
    assert found.products == sum(asked)
    assert not found.x[1].any()
    assert bool((found.residual <= goal).all())


def test_what_is_left_is_said_where_the_steps_end():
    a, rhs = _system()
    found = _solved(a, rhs, max_steps=2)
    assert not found.converged
    torch.testing.assert_close(found.residual, (rhs - found.x @ a).norm(dim=-1))


def test_a_step_is_the_minimum_along_its_direction():
    a, rhs = _system()
    goal = torch.zeros(3, dtype=torch.float64)
    for _, step in zip(range(3), steps(lambda x: x @ a, rhs, goal), strict=False):
        left = (rhs - step.moved @ a) * step.direction
        assert left.sum(-1).abs().max() == pytest.approx(0.0, abs=1e-12)
        torch.testing.assert_close(step.left, rhs - step.moved @ a)


def test_nobody_has_to_look_whether_systems_are_finished():
    a, rhs = _system()
    goal = torch.tensor([1e-1, 1e-6, 1e-2], dtype=rhs.dtype) * rhs.norm(dim=-1)
    watched = list(steps(lambda x: x @ a, rhs, goal))
    blind = list(islice(steps(lambda x: x @ a, rhs, goal, watch=False), len(watched) + 3))
    torch.testing.assert_close(blind[-1].moved, watched[-1].moved, atol=1e-13, rtol=0)
    assert not blind[-1].active.any()
    assert blind[0].active.all()
