"""r2SCAN exchange: libxc MGGA_X_R2SCAN (497), and its smooth interpolation.

References:
    J. W. Furness, A. D. Kaplan, J. Ning, J. P. Perdew, J. Sun, J. Phys. Chem. Lett. 11, 8208
    (2020), supplement eqs. (S6)-(S12), doi:10.1021/acs.jpclett.0c02405; polynomial from
    A. P. Bartok, J. R. Yates, J. Chem. Phys. 150, 161101 (2019), doi:10.1063/1.5094646.
"""

import dataclasses

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import exchange_component
from deeph_zero.ks.xc.density_variables import ClosedShell
from deeph_zero.ks.xc.gga_x_pbe import MU_GE, S2_FACTOR
from deeph_zero.ks.xc.lda_x import SLATER
from deeph_zero.ks.xc.mgga_x_scan import (
    EXCHANGE_SWITCH,
    H0X,
    K1,
    Switch,
    alpha_and_slopes,
    assemble_exchange,
    blended,
    enhancement_h1x,
    large_gradient_damping,
)
from deeph_zero.ks.xc.mgga_x_tpss import TAU_UNIFORM

ETA = 0.001
DP2 = 0.361
ALPHA_JOIN = 2.5


@dataclasses.dataclass(frozen=True)
class SmoothSwitch:
    """SCAN's f(alpha) with a polynomial between alpha = 0 and 2.5, eq. (S7).

    Attributes:
        outside: SCAN's form, kept below 0 and above 2.5.
        polynomial: Coefficients of alpha^0 ... alpha^7.
    """

    outside: Switch
    polynomial: tuple[float, ...]

    @property
    def slope_at_one(self) -> float:
        """df / d alpha at alpha = 1."""
        return sum(i * c for i, c in enumerate(self.polynomial))

    def __call__(self, alpha: Tensor) -> Tensor:
        """Value at ``alpha``, [ngrids]."""
        negative, large = alpha <= 0, alpha > ALPHA_JOIN
        a = torch.where(large, ALPHA_JOIN, alpha)
        middle = torch.full_like(a, self.polynomial[-1])
        for coefficient in reversed(self.polynomial[:-1]):
            middle = middle * a + coefficient
        a = torch.where(negative, alpha, 0.0)
        left = torch.exp(-self.outside.c1 * a / (1 - a))
        right = self.outside.tail(alpha, large)
        return torch.where(negative, left, torch.where(large, right, middle))

    def value_and_slope(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """f and df / d alpha, [ngrids] each, without a graph."""
        negative = alpha <= 0
        outside = negative | (alpha > ALPHA_JOIN)
        value, slope = self.outside.branches(alpha, negative, outside)
        a = alpha.clamp(0.0, ALPHA_JOIN)
        middle = torch.full_like(a, self.polynomial[-1])
        derivative = torch.zeros_like(a)
        for coefficient in reversed(self.polynomial[:-1]):
            derivative.mul_(a).add_(middle)
            middle.mul_(a).add_(coefficient)
        return torch.where(outside, value, middle), torch.where(outside, slope, derivative)


EXCHANGE_SMOOTH_SWITCH = SmoothSwitch(
    EXCHANGE_SWITCH,
    (
        1.0,
        -0.667,
        -0.4445555,
        -0.663086601049,
        1.451297044490,
        -0.887998041597,
        0.234528941479,
        -0.023185843322,
    ),
)
_C_ETA = 20 / 27 + ETA * 5 / 3
_C2 = -EXCHANGE_SMOOTH_SWITCH.slope_at_one * (1 - H0X)


def r2scan_exchange(rho: Tensor, rho13: Tensor, sigma: Tensor | None, tau: Tensor | None) -> Tensor:
    """Exchange energy per volume of a closed shell, [ngrids], Eh / bohr^3."""
    assert sigma is not None
    assert tau is not None
    rho43 = rho * rho13
    p = S2_FACTOR * sigma / (rho43 * rho43)
    tau_w = sigma / (8 * rho)
    alpha = (tau - tau_w) / (TAU_UNIFORM * rho * rho13 * rho13 + ETA * tau_w)
    x = (_C_ETA * _C2 * torch.exp(-p * p / DP2**4) + MU_GE) * p
    h1x = enhancement_h1x(x)
    factor = h1x + EXCHANGE_SMOOTH_SWITCH(alpha) * (H0X - h1x)
    return SLATER * rho43 * factor * large_gradient_damping(p)


def _first(d: ClosedShell) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Energy per volume of a closed shell and its derivatives by rho, sigma and tau."""
    assert d.sigma is not None
    alpha, alpha_slopes = alpha_and_slopes(d, ETA)
    p_slope = (d.inverse43 * d.inverse43).mul_(S2_FACTOR)
    p = p_slope * d.sigma
    squared = (p * p).mul_(-1 / DP2**4)
    gauss = torch.exp(squared).mul_(_C_ETA * _C2)
    x = (gauss + MU_GE).mul_(p)
    inverse = (K1 + x).reciprocal_()
    h1x = x.mul_(inverse).mul_(K1).add_(1)
    by_p = squared.mul_(2).add_(1).mul_(gauss).add_(MU_GE)
    by_p.mul_(inverse.square_()).mul_(K1**2)
    enhancement = blended((h1x, by_p, None), EXCHANGE_SMOOTH_SWITCH.value_and_slope(alpha), p)
    return assemble_exchange(d, enhancement, (p, p_slope), alpha_slopes)


COMPONENTS = (
    exchange_component(
        "MGGA_X_R2SCAN", 497, "MGGA", r2scan_exchange, threshold=1e-11, first=_first
    ),
)
