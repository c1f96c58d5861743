"""The exponential integral exp(x) E1(x), which torch lacks, with all its derivatives.

References:
    M. Abramowitz, I. A. Stegun, Handbook of Mathematical Functions (1964), eqs. 5.1.11, 5.1.22.
"""

import math
from typing import Any

import torch
from torch import Tensor

EULER_GAMMA = 0.57721566490153286061
_SERIES_END = 2.0
_SERIES = tuple((-1) ** (k + 1) / (k * math.factorial(k)) for k in range(1, 25))
_FRACTION_TERMS = 45


def _small(x: Tensor) -> Tensor:
    """E1(x) + log(x) from its power series, for x <= 2."""
    total = torch.full_like(x, _SERIES[-1])
    for coefficient in reversed(_SERIES[:-1]):
        total = total.mul_(x).add_(coefficient)
    return total.mul_(x).sub_(EULER_GAMMA)


def _large(x: Tensor) -> Tensor:
    """exp(x) E1(x) from its continued fraction, for x >= 2."""
    tail = torch.zeros_like(x)
    for k in range(_FRACTION_TERMS, 0, -1):
        tail = (x + (2 * k + 1)).sub_(tail).reciprocal_().mul_(k * k)
    return (x + 1).sub_(tail).reciprocal_()


class _ScaledE1(torch.autograd.Function):
    """g(x) = exp(x) E1(x) and G(x) = g(x) + log(x); g' = g - 1 / x and G' = g."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        small = x <= _SERIES_END
        near, far = torch.where(small, x, 1.0), torch.where(small, _SERIES_END, x)
        log_near, entire = torch.log(near), _small(near)
        grown = torch.expm1(near)
        # (entire - log) exp(x) + log, without the difference of logarithms
        plus_log = entire + grown * (entire - log_near)
        large = _large(far)
        g = torch.where(small, plus_log - log_near, large)
        ctx.save_for_backward(x, g)
        ctx.set_materialize_grads(False)  # zero times an overflowing power of 1 / x
        return g, torch.where(small, plus_log, large + torch.log(far))

    @staticmethod
    def backward(ctx: Any, grad_g: Tensor | None, grad_plus_log: Tensor | None) -> Tensor | None:
        x, g = ctx.saved_tensors
        if grad_g is None:
            return None if grad_plus_log is None else grad_plus_log * g
        first = grad_g * (g - 1 / x)
        return first if grad_plus_log is None else first + grad_plus_log * g


def scaled_e1(x: Tensor) -> tuple[Tensor, Tensor]:
    """g = exp(x) E1(x), and g + log(x): what is left where logarithms cancel.

    Args:
        x: Positive, [ngrids].

    Returns:
        Both, [ngrids]; any number of derivatives.
    """
    g, plus_log = _ScaledE1.apply(x)  # pyright: ignore[reportGeneralTypeIssues]
    return g, plus_log
