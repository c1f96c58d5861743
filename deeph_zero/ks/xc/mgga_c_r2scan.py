"""r2SCAN correlation: libxc MGGA_C_R2SCAN (498).

References:
    J. W. Furness, A. D. Kaplan, J. Ning, J. P. Perdew, J. Sun, J. Phys. Chem. Lett. 11, 8208
    (2020), supplement eqs. (S24)-(S41), doi:10.1021/acs.jpclett.0c02405.
"""

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density_variables import ClosedShell, Polarised
from deeph_zero.ks.xc.gga_c_pbe import GAMMA, T2_FACTOR
from deeph_zero.ks.xc.gga_x_pbe import S2_FACTOR
from deeph_zero.ks.xc.lda_c_pw import PW92_MOD
from deeph_zero.ks.xc.mgga_c_scan import (
    B1C,
    B2C,
    B3C,
    CORRELATION_SWITCH,
    assemble_correlation,
    beta_of_rs,
    gradient_bracket,
    lda0,
    one_minus_g,
    scaled_t2_first,
    single_orbital,
    single_orbital_first,
    spin_factor,
)
from deeph_zero.ks.xc.mgga_x_r2scan import DP2, ETA, SmoothSwitch
from deeph_zero.ks.xc.mgga_x_scan import alpha_and_slopes
from deeph_zero.ks.xc.mgga_x_tpss import TAU_UNIFORM

SMOOTH_SWITCH = SmoothSwitch(
    CORRELATION_SWITCH,
    (
        1.0,
        -0.64,
        -0.4352,
        -1.535685604549,
        3.061560252175,
        -1.915710236206,
        0.516884468372,
        -0.051848879792,
    ),
)
_Y_FLOOR = -0.2
"""y - dy stays above it for any density; it only keeps (1 + 4 y)^(1/4) real for bad input."""


def _lda0_slope(rs: Tensor, rs_sqrt: Tensor) -> Tensor:
    """rs d eps_LDA0 / d rs at zeta = 0, Eh."""
    odd, even = B2C * rs_sqrt, B3C * rs
    return B1C * (0.5 * odd + even) / (1 + odd + even) ** 2


def _r2scan(
    d: ClosedShell | Polarised,
    eps: Tensor,
    eps_slope: Tensor,
    spin: tuple[Tensor | float, Tensor | float, Tensor | float],
) -> Tensor:
    """Energy per volume.

    Args:
        d: Density variables.
        eps: Uniform-gas correlation per electron.
        eps_slope: rs times its derivative with respect to rs.
        spin: phi, d_s and G_c.

    Returns:
        Energy per volume, Eh/bohr^3, shape of the density.
    """
    assert d.sigma is not None
    assert d.tau is not None
    phi, d_s, g_c = spin
    rho43 = d.rho * d.rho13
    p = S2_FACTOR * d.sigma / (rho43 * rho43)
    t2 = T2_FACTOR * d.sigma / (d.rho * rho43) / (phi * phi)
    tau_w = d.sigma / (8 * d.rho)
    alpha = (d.tau - tau_w) / (TAU_UNIFORM * d.rho * d.rho13 * d.rho13 * d_s + ETA * tau_w)
    eps_lda0 = lda0(d.rs, d.rs_sqrt)
    gamma_phi3 = GAMMA * phi * phi * phi
    w1 = torch.expm1(-eps / gamma_phi3)
    # eq. (S34)
    difference = 20 * (g_c * _lda0_slope(d.rs, d.rs_sqrt) - eps_slope)
    difference = difference - 45 * ETA * (g_c * eps_lda0 - eps)
    dy = SMOOTH_SWITCH.slope_at_one / (27 * gamma_phi3 * d_s * w1) * difference
    dy = dy * p * torch.exp(-p * p / DP2**4)
    y = beta_of_rs(d.rs) * t2 / (GAMMA * w1) - dy
    y = torch.where(y > _Y_FLOOR, y, _Y_FLOOR)
    eps1 = eps + gamma_phi3 * torch.log1p(w1 * one_minus_g(y))
    eps0 = single_orbital(eps_lda0, p) * g_c
    return d.rho * (eps1 + SMOOTH_SWITCH(alpha) * (eps0 - eps1))


def _r2scan_closed_shell(d: ClosedShell) -> Tensor:
    eps, slope = PW92_MOD.unpolarised(d), PW92_MOD.slope_unpolarised(d)
    return _r2scan(d, eps, slope, (1.0, 1.0, 1.0))


def _shift_first(
    d: ClosedShell, u: Tensor, eps: tuple[Tensor, Tensor, Tensor], w1: Tensor, p: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """dy of eq. (S34) at zeta = 0, its rho d/drho and its derivative by p.

    Args:
        d: Density variables.
        u: 1 + B2C sqrt(rs) + B3C rs.
        eps: Uniform-gas correlation and its first two derivatives by ln rs.
        w1: exp(-eps / gamma) - 1.
        p: s^2.

    Returns:
        Three tensors [ngrids].
    """
    odd, even = B2C * d.rs_sqrt, B3C * d.rs
    inverse = u.reciprocal()
    u_slope, u_curvature = 0.5 * odd + even, 0.25 * odd + even
    square = (inverse * inverse).mul_(B1C)
    lda_slope = u_slope * square
    lda_curvature = (u_slope * lda_slope).mul_(inverse).mul_(-2).addcmul_(u_curvature, square)
    factor = SMOOTH_SWITCH.slope_at_one / (27 * GAMMA)
    energies = (-B1C * inverse).sub_(eps[0])
    slopes = lda_slope.sub_(eps[1])
    curvatures = lda_curvature.sub_(eps[2])
    scale = factor / w1
    difference = energies.mul_(-45 * ETA).add_(slopes, alpha=20).mul_(scale)
    by_rs = curvatures.mul_(20).add_(slopes, alpha=-45 * ETA).mul_(scale)
    by_rs.addcmul_(difference, (1 + w1).div_(w1).mul_(eps[1]), value=1 / GAMMA)
    squared = (p * p).mul_(-1 / DP2**4)
    gauss = torch.exp(squared)
    by_p = squared.mul_(2).add_(1).mul_(gauss).mul_(difference)
    gauss.mul_(p)
    by_rho = by_rs.mul_(gauss).mul_(-1 / 3).addcmul_(by_p, p, value=-8 / 3)
    return difference.mul_(gauss), by_rho, by_p


def _first(d: ClosedShell) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Energy per volume of a closed shell and its derivatives by rho, sigma and tau."""
    assert d.sigma is not None
    p_slope = (d.inverse43 * d.inverse43).mul_(S2_FACTOR)
    p = p_slope * d.sigma
    eps = PW92_MOD.para.up_to_curvature(d.rs, d.rs_sqrt)
    w1 = torch.expm1(eps[0] * (-1 / GAMMA))
    eps0, by_rs, by_p, u = single_orbital_first(d, p)
    y, by_rho, by_sigma = scaled_t2_first(d, eps[1], w1)
    dy, dy_by_rho, dy_by_p = _shift_first(d, u, eps, w1, p)
    y = y.sub_(dy)
    inside = y > _Y_FLOOR
    y = torch.where(inside, y, _Y_FLOOR)
    by_rho = torch.where(inside, by_rho.sub_(dy_by_rho), 0.0)
    by_sigma = torch.where(inside, by_sigma.sub_(dy_by_p.mul_(p_slope)), 0.0)
    slow = gradient_bracket((eps[0], eps[1]), w1, (y, by_rho, by_sigma))
    single = (eps0, by_rs.mul_(-1 / 3).addcmul_(by_p, p, value=-8 / 3), by_p.mul_(p_slope))
    alpha, alpha_slopes = alpha_and_slopes(d, ETA)
    switch = SMOOTH_SWITCH.value_and_slope(alpha)
    return assemble_correlation(d, slow, single, switch, alpha_slopes)


def _r2scan_polarised(d: Polarised) -> Tensor:
    eps, slope = PW92_MOD.polarised(d), PW92_MOD.slope_polarised(d)
    return _r2scan(d, eps, slope, (d.phi, d.d_s, spin_factor(d)))


COMPONENTS = (
    Component(
        name="MGGA_C_R2SCAN",
        libxc_id=498,
        kind="MGGA",
        threshold=1e-15,
        closed_shell=_r2scan_closed_shell,
        polarised=_r2scan_polarised,
        closed_shell_first=_first,
    ),
)
