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
from deeph_zero.ks.xc.density_variables import ClosedShell
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
        left_end, right_end = self._ends()
        below, above = alpha <= left_end, alpha >= right_end
        a = torch.where(below, alpha, 0.0)
        left = torch.exp(-self.c1 * a / (1 - a))
        return torch.where(below, left, torch.where(above, self.tail(alpha, above), 0.0))

    def tail(self, alpha: Tensor, inside: Tensor) -> Tensor:
        """-d exp(c2 / (1 - alpha)) where ``inside``; anything finite elsewhere."""
        a = torch.where(inside, alpha, 2.0)
        return -self.d * torch.exp(self.c2 / (1 - a))

    def value_and_slope(self, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """f and df / d alpha, [ngrids] each, without a graph."""
        left_end, right_end = self._ends()
        below = alpha <= left_end
        outside = below | (alpha >= right_end)
        value, slope = self.branches(alpha, below, outside)
        return torch.where(outside, value, 0.0), torch.where(outside, slope, 0.0)

    def branches(self, alpha: Tensor, below: Tensor, outside: Tensor) -> tuple[Tensor, Tensor]:
        """Value and slope of both exponentials with one evaluation; anything finite between."""
        inverse = (1 - torch.where(outside, alpha, 2.0)).reciprocal_()
        rate = torch.full_like(alpha, self.c2).masked_fill_(below, -self.c1)
        # -c1 alpha / (1 - alpha) = c1 - c1 / (1 - alpha)
        prefactor = torch.full_like(alpha, -self.d).masked_fill_(below, math.exp(self.c1))
        value = (rate * inverse).exp_().mul_(prefactor)
        return value, rate.mul_(value).mul_(inverse).mul_(inverse)

    def _ends(self) -> tuple[float, float]:
        """Where the two exponentials have fallen to machine precision."""
        log_eps = -math.log(torch.finfo(torch.float64).eps)
        log_eps_right = log_eps + math.log(self.d)
        return log_eps / (log_eps + self.c1), (log_eps_right + self.c2) / log_eps_right


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


def alpha_and_slopes(d: ClosedShell, eta: float) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """(tau - tau_W) / (tau_uniform + eta tau_W) and its derivatives.

    Args:
        d: Density variables, all three.
        eta: 0, or r2SCAN's regularisation.

    Returns:
        alpha, and its rho d/drho, d/dsigma and d/dtau, [ngrids] each, without a graph.
    """
    assert d.sigma is not None
    assert d.tau is not None
    weizsaecker = 0.125 / d.rho  # per sigma
    tau_w = weizsaecker * d.sigma
    inverse = (d.rho43 * d.rho13).mul_(TAU_UNIFORM)
    if eta:
        inverse.add_(tau_w, alpha=eta)
    inverse.reciprocal_()
    alpha = (d.tau - tau_w).mul_(inverse)
    by_tau_w = (-eta * alpha).sub_(1).mul_(inverse) if eta else -inverse
    by_rho = (-5 / 3) * alpha
    if eta:
        # tau_uniform over the denominator
        by_rho.mul_((tau_w * inverse).mul_(-eta).add_(1))
    by_rho.sub_(tau_w.mul_(by_tau_w))
    return alpha, (by_rho, weizsaecker.mul_(by_tau_w), inverse)


def damping_and_slope(p: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`large_gradient_damping` and its derivative by p, without a graph."""
    inside = p > _P_FLOOR
    p = torch.where(inside, p, _P_FLOOR)
    exponent = torch.rsqrt(torch.sqrt(p)).mul_(-A1)
    damping = torch.expm1(exponent).neg_()
    slope = (1 - damping).mul_(exponent).div_(p).mul_(0.25)
    return damping, torch.where(inside, slope, 0.0)


def assemble_exchange(
    d: ClosedShell,
    enhancement: tuple[Tensor, Tensor, Tensor],
    p: tuple[Tensor, Tensor],
    alpha: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """SLATER rho^(4/3) F(p, alpha) and its derivatives by rho, sigma and tau.

    Args:
        d: Density variables.
        enhancement: F and its derivatives by p and alpha.
        p: s^2 and its derivative by sigma.
        alpha: rho d/drho, d/dsigma and d/dtau of alpha, of :func:`alpha_and_slopes`.

    Returns:
        Energy per volume and three derivatives, [ngrids] each.
    """
    factor, by_p, by_alpha = enhancement
    by_rho = (4 / 3) * factor
    by_rho.addcmul_(p[0], by_p, value=-8 / 3).addcmul_(by_alpha, alpha[0])
    scale = SLATER * d.rho43
    by_sigma = (by_p * p[1]).addcmul_(by_alpha, alpha[1]).mul_(scale)
    by_tau = (by_alpha * alpha[2]).mul_(scale)
    return factor * scale, by_rho.mul_(d.rho13).mul_(SLATER), by_sigma, by_tau


def blended(
    h: tuple[Tensor, Tensor, Tensor | None], switch: tuple[Tensor, Tensor], p: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """F = (h1x + f (h0x - h1x)) g_x and its derivatives by p and alpha.

    Args:
        h: h1x, its derivatives by p and (None: it does not depend on it) alpha.
        switch: f(alpha) and its slope.
        p: s^2.

    Returns:
        Three tensors [ngrids].
    """
    h1x, by_p, by_alpha = h
    f, slope = switch
    damping, damping_slope = damping_and_slope(p)
    rest = 1 - f
    factor = (rest * h1x).add_(f, alpha=H0X)
    slope = (H0X - h1x).mul_(slope)
    if by_alpha is not None:
        slope.addcmul_(rest, by_alpha)
    by_p = (rest.mul_(by_p)).mul_(damping).addcmul_(factor, damping_slope)
    return factor.mul_(damping), by_p, slope.mul_(damping)


def _first(d: ClosedShell) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Energy per volume of a closed shell and its derivatives by rho, sigma and tau."""
    assert d.sigma is not None
    alpha, alpha_slopes = alpha_and_slopes(d, 0.0)
    p_slope = (d.inverse43 * d.inverse43).mul_(S2_FACTOR)
    p = p_slope * d.sigma
    beyond = 1 - alpha
    gauss = torch.exp((beyond * beyond).mul_(-B3))
    mean = (beyond * gauss).mul_(B2).add_(p, alpha=B1)
    falling = torch.exp(p * (-B4 / MU_GE)).mul_(p).mul_(B4)
    x = (mean * mean).add_(p, alpha=MU_GE).addcmul_(falling, p)
    h_slope = (K1 + x).reciprocal_().mul_(K1).square_()
    by_p = (2 * B1 * mean).add_(MU_GE).add_(falling * (2 - (B4 / MU_GE) * p)).mul_(h_slope)
    # d slow / d alpha = (2 b3 (1 - alpha)^2 - 1) exp
    by_alpha = (beyond * beyond).mul_(2 * B3).sub_(1).mul_(gauss).mul_(mean).mul_(2 * B2)
    h = (enhancement_h1x(x), by_p, by_alpha.mul_(h_slope))
    enhancement = blended(h, EXCHANGE_SWITCH.value_and_slope(alpha), p)
    return assemble_exchange(d, enhancement, (p, p_slope), alpha_slopes)


COMPONENTS = (exchange_component("MGGA_X_SCAN", 263, "MGGA", scan_exchange, first=_first),)
