"""Becke 1988 exchange: libxc GGA_X_B88 (106).

References:
    A. D. Becke, Phys. Rev. A 38, 3098 (1988), eq. (8), doi:10.1103/PhysRevA.38.3098.
"""

import math

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import exchange_component
from deeph_zero.ks.xc.density_variables import ClosedShell
from deeph_zero.ks.xc.lda_x import SLATER

BETA = 0.0042
_SERIES_END = 0.05
# asinh(x) / x = sum_k (-1)^k C(2k, k) / (4^k (2k + 1)) u^k with u = x^2
_SERIES = tuple((-1) ** k * math.comb(2 * k, k) / (4**k * (2 * k + 1)) for k in range(13))


def asinh_ratio(u: Tensor) -> Tensor:
    """asinh(x) / x as a smooth function of u = x^2 >= 0, [ngrids].

    The closed form loses every digit of the higher derivatives in u as u -> 0, so a Taylor series
    takes over there.
    """
    large = u > _SERIES_END
    x = torch.sqrt(torch.where(large, u, 1.0))
    small = torch.where(large, 0.0, u)
    series = torch.full_like(u, _SERIES[-1])
    for coefficient in reversed(_SERIES[:-1]):
        series = series * small + coefficient
    return torch.where(large, torch.asinh(x) / x, series)


def x_asinh_x(u: Tensor) -> Tensor:
    """x asinh(x) as a smooth function of u = x^2 >= 0, [ngrids]."""
    return u * asinh_ratio(u)


def becke_exchange(
    rho: Tensor,
    rho13: Tensor,
    sigma: Tensor | None,
    tau: Tensor | None = None,  # noqa: ARG001 - one signature for all exchange functionals
) -> Tensor:
    """Exchange energy per volume of a closed shell, [ngrids], Eh / bohr^3."""
    assert sigma is not None
    rho43 = rho * rho13
    # x^2 of one spin: (sigma / 4) / (rho / 2)^(8/3)
    u = 2 ** (2 / 3) * sigma / (rho43 * rho43)
    correction = (BETA / 2 ** (1 / 3)) * u / (1 + 6 * BETA * x_asinh_x(u))
    return rho43 * (SLATER - correction)


def _first(d: ClosedShell) -> tuple[Tensor, Tensor, Tensor]:
    """Energy per volume of a closed shell and its derivatives by rho and sigma."""
    assert d.sigma is not None
    u = (d.sigma * d.inverse43).mul_(d.inverse43).mul_(2 ** (2 / 3))
    ratio = asinh_ratio(u)
    # d(x asinh x)/du = (asinh(x)/x + 1 / sqrt(1 + x^2)) / 2
    slope = torch.rsqrt(1 + u).add_(ratio).mul_(3 * BETA)
    inverse = (1 + ratio.mul_(u).mul_(6 * BETA)).reciprocal_()
    quotient = (u * inverse).mul_(BETA / 2 ** (1 / 3))
    by_u = (BETA / 2 ** (1 / 3) - quotient * slope).mul_(inverse)
    by_sigma = by_u.mul(d.inverse43).mul_(-(2 ** (2 / 3)))
    by_rho = (SLATER - quotient).mul_(4 / 3).add_(by_u.mul_(u), alpha=8 / 3).mul_(d.rho13)
    return (SLATER - quotient).mul_(d.rho43), by_rho, by_sigma


COMPONENTS = (exchange_component("GGA_X_B88", 106, "GGA", becke_exchange, first=_first),)
