"""exp(x) E1(x) and its logarithm-free form against SciPy's, and as solutions of their equation."""

import math

import numpy as np
import pytest
import torch
from scipy.special import exp1

from deeph_zero.ks.xc.exponential_integral import scaled_e1


def test_scaled_exponential_integral_and_its_derivatives() -> None:
    x = torch.cat([torch.logspace(-12, 2.8, 300), torch.tensor([1.999999, 2.0, 2.000001])])
    x = x.double().requires_grad_()
    at = x.detach()
    expected = torch.from_numpy(np.exp(at.numpy()) * exp1(at.numpy()))
    g, plus_log = scaled_e1(x)
    torch.testing.assert_close(g.detach(), expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(plus_log.detach(), expected + at.log(), rtol=1e-11, atol=1e-14)
    first = torch.autograd.grad(plus_log.sum(), x, create_graph=True)[0]
    torch.testing.assert_close(first.detach(), expected, rtol=1e-13, atol=0)
    second = torch.autograd.grad(first.sum(), x)[0]
    torch.testing.assert_close(second, expected - 1 / at, rtol=1e-10, atol=0)


def test_small_and_large_arguments():
    x = torch.tensor([1e-250, 1e8, 1e300], dtype=torch.float64)
    g, plus_log = scaled_e1(x)
    assert float(g[0]) == pytest.approx(-0.5772156649015329 + 250 * math.log(10), rel=1e-13)
    assert float(plus_log[0]) == pytest.approx(-0.5772156649015329, rel=1e-12)
    # 1/x - 1/x^2 + ...
    torch.testing.assert_close(g[1:], 1 / x[1:] - 1 / x[1:] ** 2, rtol=1e-13, atol=0)


@pytest.mark.parametrize("which", [0, 1])
def test_each_result_can_be_differentiated_alone(which):
    x = torch.tensor([0.3, 1.9, 2.1, 40.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(scaled_e1(x)[which].sum(), x)
    at, step = x.detach(), 1e-6
    up, down = (scaled_e1(at + t)[which] for t in (step, -step))
    torch.testing.assert_close(slope, (up - down) / (2 * step), rtol=1e-6, atol=1e-9)


def test_third_derivatives_are_there():
    """With g' = g - 1/x the third one is g - 1/x + 1/x^2 - 2/x^3."""
    x = torch.tensor([0.7, 3.0], dtype=torch.float64, requires_grad=True)
    value = scaled_e1(x)[0]
    found = value
    for _ in range(3):
        (found,) = torch.autograd.grad(found.sum(), x, create_graph=True)
    wanted = value - 1 / x + 1 / x**2 - 2 / x**3
    torch.testing.assert_close(found.detach(), wanted.detach(), rtol=1e-11, atol=0)
