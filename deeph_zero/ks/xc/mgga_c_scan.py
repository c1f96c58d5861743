"""SCAN correlation: libxc MGGA_C_SCAN (267).

References:
    J. Sun, A. Ruzsinszky, J. P. Perdew, Phys. Rev. Lett. 115, 036402 (2015), supplement,
    doi:10.1103/PhysRevLett.115.036402.
"""

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density_variables import ClosedShell, Polarised
from deeph_zero.ks.xc.gga_c_pbe import BETA, GAMMA, T2_FACTOR
from deeph_zero.ks.xc.gga_x_pbe import S2_FACTOR
from deeph_zero.ks.xc.lda_c_pw import PW92_MOD
from deeph_zero.ks.xc.mgga_x_scan import Switch, alpha_and_slopes
from deeph_zero.ks.xc.mgga_x_tpss import TAU_UNIFORM

B1C, B2C, B3C = 0.0285764, 0.0889, 0.125541
CHI_INFINITY = 0.12802585262625815
SPIN_SLOPE = 2.363 * (2 ** (1 / 3) - 1)
CORRELATION_SWITCH = Switch(0.64, 1.5, 0.7)


def beta_of_rs(rs: Tensor) -> Tensor:
    """Gradient coefficient beyond the high-density limit, revTPSS form, [ngrids]."""
    return BETA * (1 + 0.1 * rs) / (1 + 0.1778 * rs)


def one_minus_g(y: Tensor) -> Tensor:
    """1 - (1 + 4 y)^(-1/4), exact for small y."""
    return -torch.expm1(-0.25 * torch.log1p(4 * y))


def lda0(rs: Tensor, rs_sqrt: Tensor) -> Tensor:
    """Uniform limit of the single-orbital correlation, Eh per electron at zeta = 0."""
    return -B1C / (1 + B2C * rs_sqrt + B3C * rs)


def spin_factor(d: Polarised) -> Tensor:
    """G_c(zeta), 1 at zeta = 0 and 0 at full polarisation."""
    return (1 - SPIN_SLOPE * d.f_zeta) * (1 - d.zeta**12)


def single_orbital(eps0: Tensor, p: Tensor) -> Tensor:
    """eps_c^0 of eq. (S20) before the spin factor, Eh per electron.

    Args:
        eps0: From :func:`lda0`.
        p: s^2 of the total density.

    Returns:
        [ngrids].
    """
    w0 = torch.expm1(-eps0 / B1C)
    return eps0 + B1C * torch.log1p(w0 * one_minus_g(CHI_INFINITY * p))


def _slowly_varying(eps: Tensor, rs: Tensor, t2_phi2: Tensor, phi: Tensor | float) -> Tensor:
    """eps_c^1: uniform gas and the gradient correction H1, Eh per electron."""
    gamma_phi3 = GAMMA * phi * phi * phi
    w1 = torch.expm1(-eps / gamma_phi3)
    y = beta_of_rs(rs) * t2_phi2 / (phi * phi) / (GAMMA * w1)
    return eps + gamma_phi3 * torch.log1p(w1 * one_minus_g(y))


def _reduced_gradients(d: ClosedShell | Polarised) -> tuple[Tensor, Tensor]:
    """t^2 phi^2 and s^2 of the total density."""
    assert d.sigma is not None
    rho43 = d.rho * d.rho13
    return T2_FACTOR * d.sigma / (d.rho * rho43), S2_FACTOR * d.sigma / (rho43 * rho43)


def _alpha(d: ClosedShell | Polarised, d_s: Tensor | float) -> Tensor:
    """(tau - tau_W) / tau_uniform."""
    assert d.sigma is not None
    assert d.tau is not None
    return (d.tau - d.sigma / (8 * d.rho)) / (TAU_UNIFORM * d.rho * d.rho13 * d.rho13 * d_s)


def _scan_closed_shell(d: ClosedShell) -> Tensor:
    t2, p = _reduced_gradients(d)
    eps1 = _slowly_varying(PW92_MOD.unpolarised(d), d.rs, t2, 1.0)
    eps0 = single_orbital(lda0(d.rs, d.rs_sqrt), p)
    return d.rho * (eps1 + CORRELATION_SWITCH(_alpha(d, 1.0)) * (eps0 - eps1))


def single_orbital_first(d: ClosedShell, p: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """eps_c^0 at zeta = 0 and what its derivatives need, without a graph.

    Args:
        d: Density variables.
        p: s^2.

    Returns:
        eps_c^0, its derivatives by ln rs and by p, and u = -B1C / eps_LDA0, [ngrids] each.
    """
    odd, even = B2C * d.rs_sqrt, B3C * d.rs
    u = 1 + odd + even
    inverse = u.reciprocal()
    w0 = torch.expm1(inverse)
    quarter = (CHI_INFINITY * p).mul_(4).add_(1)
    below = torch.rsqrt(torch.sqrt(quarter))
    # p is small in the slowly varying gas: no 1 - below
    bracket = one_minus_g(CHI_INFINITY * p)
    argument = w0 * bracket
    outer = (1 + argument).reciprocal_().mul_(B1C)
    by_p = below.div_(quarter).mul_(CHI_INFINITY).mul_(w0).mul_(outer)
    slope = odd.mul_(0.5).add_(even).mul_(inverse).mul_(inverse)  # d(-1 / u) / d ln rs
    by_rs = (1 + w0).mul_(bracket).mul_(outer).neg_().add_(B1C).mul_(slope)
    return torch.log1p(argument).sub_(inverse).mul_(B1C), by_rs, by_p, u


def assemble_correlation(
    d: ClosedShell,
    slow: tuple[Tensor, Tensor, Tensor],
    single: tuple[Tensor, Tensor, Tensor],
    switch: tuple[Tensor, Tensor],
    alpha: tuple[Tensor, Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """rho (eps1 + f (eps0 - eps1)) and its derivatives by rho, sigma and tau.

    Args:
        d: Density variables.
        slow: eps1, its rho d/drho and its d/dsigma.
        single: eps0, its rho d/drho and its d/dsigma.
        switch: f(alpha) and its slope.
        alpha: rho d/drho, d/dsigma and d/dtau of alpha.

    Returns:
        Energy per volume and three derivatives, [ngrids] each.
    """
    f, slope = switch
    eps, by_rho, by_sigma = (torch.lerp(a, b, f) for a, b in zip(slow, single, strict=True))
    by_alpha = (single[0] - slow[0]).mul_(slope)
    by_rho = by_rho.add_(eps).addcmul_(by_alpha, alpha[0])
    by_sigma = by_sigma.addcmul_(by_alpha, alpha[1]).mul_(d.rho)
    return eps.mul_(d.rho), by_rho, by_sigma, by_alpha.mul_(alpha[2]).mul_(d.rho)


def gradient_bracket(
    eps: tuple[Tensor, Tensor], w1: Tensor, y: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """eps1 = eps + gamma log(1 + w1 (1 - g(y))) at zeta = 0 with its derivatives.

    Args:
        eps: Uniform-gas correlation per electron and its derivative by ln rs.
        w1: exp(-eps / gamma) - 1.
        y: y, its rho d/drho and its d/dsigma.

    Returns:
        eps1, its rho d/drho and its d/dsigma, [ngrids] each.
    """
    quarter = (4 * y[0]).add_(1)
    bracket = one_minus_g(y[0])
    argument = w1 * bracket
    outer = (1 + argument).reciprocal_()
    by_eps = 1 - (1 + w1).mul_(bracket).mul_(outer)
    by_y = torch.rsqrt(torch.sqrt(quarter)).div_(quarter).mul_(w1).mul_(outer).mul_(GAMMA)
    by_rho = by_eps.mul_(eps[1]).mul_(-1 / 3).addcmul_(by_y, y[1])
    return torch.log1p(argument).mul_(GAMMA).add_(eps[0]), by_rho, by_y.mul_(y[2])


def scaled_t2_first(d: ClosedShell, eps_slope: Tensor, w1: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """beta(rs) t^2 / (gamma w1) at zeta = 0, its rho d/drho and its d/dsigma."""
    assert d.sigma is not None
    rational = (1 + 0.1778 * d.rs).reciprocal_()
    by_sigma = (1 + 0.1 * d.rs).mul_(rational).mul_(BETA * T2_FACTOR / GAMMA)
    by_sigma = by_sigma.mul_(d.inverse43).div_(d.rho).div_(w1)
    y = by_sigma * d.sigma
    # d ln beta / d ln rs and d ln w1 / d ln rs
    log_beta = (-0.0778 * d.rs).mul_(rational).div_(1 + 0.1 * d.rs)
    log_w1 = (1 + w1).div_(w1).mul_(eps_slope).mul_(-1 / GAMMA)
    return y, log_beta.sub_(log_w1).mul_(-1 / 3).sub_(7 / 3).mul_(y), by_sigma


def _first(d: ClosedShell) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Energy per volume of a closed shell and its derivatives by rho, sigma and tau."""
    assert d.sigma is not None
    p_slope = (d.inverse43 * d.inverse43).mul_(S2_FACTOR)
    p = p_slope * d.sigma
    eps, eps_slope = PW92_MOD.para.energy_and_slope(d.rs, d.rs_sqrt)
    w1 = torch.expm1(eps * (-1 / GAMMA))
    slow = gradient_bracket((eps, eps_slope), w1, scaled_t2_first(d, eps_slope, w1))
    eps0, by_rs, by_p, _ = single_orbital_first(d, p)
    single = (eps0, by_rs.mul_(-1 / 3).addcmul_(by_p, p, value=-8 / 3), by_p * p_slope)
    alpha, alpha_slopes = alpha_and_slopes(d, 0.0)
    switch = CORRELATION_SWITCH.value_and_slope(alpha)
    return assemble_correlation(d, slow, single, switch, alpha_slopes)


def _scan_polarised(d: Polarised) -> Tensor:
    t2_phi2, p = _reduced_gradients(d)
    eps1 = _slowly_varying(PW92_MOD.polarised(d), d.rs, t2_phi2, d.phi)
    eps0 = single_orbital(lda0(d.rs, d.rs_sqrt), p) * spin_factor(d)
    return d.rho * (eps1 + CORRELATION_SWITCH(_alpha(d, d.d_s)) * (eps0 - eps1))


COMPONENTS = (
    Component(
        name="MGGA_C_SCAN",
        libxc_id=267,
        kind="MGGA",
        threshold=1e-15,
        closed_shell=_scan_closed_shell,
        polarised=_scan_polarised,
        closed_shell_first=_first,
    ),
)
