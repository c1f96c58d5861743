"""SCAN exchange: libxc MGGA_X_SCAN (263), and the interpolation shared with its correlation.

References:
    J. Sun, A. Ruzsinszky, J. P. Perdew, Phys. Rev. Lett. 115, 036402 (2015), supplement,
    doi:10.1103/PhysRevLett.115.036402.
"""

import dataclasses
import math

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import exchange_component
from deeph_zero.ks.xc.gga_x_pbe import MU_GE, S2_FACTOR
from deeph_zero.ks.xc.lda_x import SLATER
from deeph_zero.ks.xc.mgga_x_tpss import TAU_UNIFORM

H0X = 1.174
K1 = 0.065
A1 = 4.9479
B2 = math.sqrt(5913 / 405000)
B1 = (511 / 13500) / (2 * B2)
B3 = 0.5
B4 = MU_GE**2 / K1 - 1606 / 18225 - B1**2
_P_FLOOR = 1e-8
"""s^2 below which exp(-A1 / sqrt(s)), there 1e-215, is constant: its powers would overflow."""


@dataclasses.dataclass(frozen=True)
class Switch:
    """f(alpha): 1 at alpha = 0, 0 at alpha = 1 with all derivatives, -d at infinity."""

    c1: float
    c2: float
    d: float

    def __call__(self, alpha: Tensor) -> Tensor:
        """Value at ``alpha``, [ngrids]; zero where the exponential is below machine precision."""
        log_eps = -math.log(torch.finfo(torch.float64).eps)
        left_end = log_eps / (log_eps + self.c1)
        log_eps_right = log_eps + math.log(self.d)
        right_end = (log_eps_right + self.c2) / log_eps_right
        below, above = alpha <= left_end, alpha >= right_end
        a = torch.where(below, alpha, 0.0)
        left = torch.exp(-self.c1 * a / (1 - a))
        return torch.where(below, left, torch.where(above, self.tail(alpha, above), 0.0))

    def tail(self, alpha: Tensor, inside: Tensor) -> Tensor:
        """-d exp(c2 / (1 - alpha)) where ``inside``; anything finite elsewhere."""
        a = torch.where(inside, alpha, 2.0)
        return -self.d * torch.exp(self.c2 / (1 - a))


EXCHANGE_SWITCH = Switch(0.667, 0.8, 1.24)


def enhancement_h1x(x: Tensor) -> Tensor:
    """1 + k1 - k1 / (1 + x / k1), the enhancement where the density varies slowly."""
    return 1 + K1 * x / (K1 + x)


def large_gradient_damping(p: Tensor) -> Tensor:
    """1 - exp(-a1 / sqrt(s)) as a function of p = s^2."""
    p = torch.where(p > _P_FLOOR, p, _P_FLOOR)
    return -torch.expm1(-A1 * p**-0.25)


def scan_exchange(rho: Tensor, rho13: Tensor, sigma: Tensor | None, tau: Tensor | None) -> Tensor:
    """Exchange energy per volume of a closed shell, [ngrids], Eh / bohr^3."""
    assert sigma is not None
    assert tau is not None
    rho43 = rho * rho13
    p = S2_FACTOR * sigma / (rho43 * rho43)
    alpha = (tau - sigma / (8 * rho)) / (TAU_UNIFORM * rho * rho13 * rho13)
    slow = (1 - alpha) * torch.exp(-B3 * (1 - alpha) ** 2)
    x = MU_GE * p + B4 * p * p * torch.exp(-B4 / MU_GE * p) + (B1 * p + B2 * slow) ** 2
    h1x = enhancement_h1x(x)
    factor = h1x + EXCHANGE_SWITCH(alpha) * (H0X - h1x)
    return SLATER * rho43 * factor * large_gradient_damping(p)


COMPONENTS = (exchange_component("MGGA_X_SCAN", 263, "MGGA", scan_exchange),)
