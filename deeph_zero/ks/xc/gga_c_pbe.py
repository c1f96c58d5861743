"""Perdew-Burke-Ernzerhof correlation: libxc GGA_C_PBE (130), and for solids _PBE_SOL (133).

References:
    J. P. Perdew, K. Burke, M. Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996), eqs. (3), (7), (8),
    doi:10.1103/PhysRevLett.77.3865. beta and gamma with all digits, as in libxc;
    J. P. Perdew et al., Phys. Rev. Lett. 100, 136406 (2008), doi:10.1103/PhysRevLett.100.136406.
"""

import math

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density_variables import ClosedShell, Polarised
from deeph_zero.ks.xc.lda_c_pw import PW92_MOD

BETA = 0.06672455060314922
BETA_SOL = 0.046
GAMMA = (1 - math.log(2)) / math.pi**2
T2_FACTOR = (math.pi / 3) ** (1 / 3) / 16
"""t^2 = T2_FACTOR * sigma / (phi^2 rho^(7/3))."""


def gradient_correction(
    eps_lda: Tensor, t2_phi2: Tensor, phi: Tensor | float, beta: float = BETA
) -> Tensor:
    """H of eq. (7), Eh per electron.

    Args:
        eps_lda: Uniform-gas correlation energy per electron, [ngrids], Eh.
        t2_phi2: t^2 phi^2 = T2_FACTOR sigma / rho^(7/3), [ngrids].
        phi: Spin scaling factor, [ngrids] or a number.
        beta: Gradient coefficient.

    Returns:
        H, [ngrids].
    """
    t2 = t2_phi2 / (phi * phi)
    gamma_phi3 = GAMMA * phi * phi * phi
    at2 = (beta / GAMMA) * t2 / torch.expm1(-eps_lda / gamma_phi3)
    inner = (beta / GAMMA) * t2 * (1 + at2) / (1 + at2 * (1 + at2))
    return gamma_phi3 * torch.log1p(inner)


def pbe_correlation_unpolarised(d: ClosedShell, beta: float = BETA) -> Tensor:
    """Correlation energy per electron at zeta = 0, [ngrids], Eh."""
    assert d.sigma is not None
    eps = PW92_MOD.unpolarised(d)
    t2 = T2_FACTOR * d.sigma / (d.rho * d.rho * d.rho13)
    return eps + gradient_correction(eps, t2, 1.0, beta)


def pbe_correlation_polarised(d: Polarised, beta: float = BETA) -> Tensor:
    """Correlation energy per electron, [ngrids], Eh."""
    eps = PW92_MOD.polarised(d)
    t2_phi2 = T2_FACTOR * d.sigma / (d.rho * d.rho * d.rho13)
    return eps + gradient_correction(eps, t2_phi2, d.phi, beta)


def _first(d: ClosedShell, beta: float) -> tuple[Tensor, Tensor, Tensor]:
    """Energy per volume of a closed shell and its derivatives by rho and sigma.

    With y = A t^2 the argument of the logarithm is 1 + w Q, w = exp(-eps / gamma) - 1 and
    Q = 1 - 1 / (1 + y + y^2).
    """
    assert d.sigma is not None
    eps, eps_slope = PW92_MOD.para.energy_and_slope(d.rs, d.rs_sqrt)
    t2 = (d.sigma * d.inverse43).div_(d.rho).mul_(T2_FACTOR * (beta / GAMMA))
    w = torch.expm1(eps * (-1 / GAMMA))
    y = t2 / w
    y2 = y * y
    p_inverse = (1 + y).add_(y2).reciprocal_()
    inner = (t2 * (1 + y)).mul_(p_inverse)
    h = torch.log1p(inner).mul_(GAMMA)
    # gamma / (1 + w Q), times dQ/dy or times Q - y dQ/dy
    outer = p_inverse.mul_(p_inverse).div_(1 + inner)
    by_t2 = (1 + 2 * y).mul_(outer)
    by_eps = (2 + y).mul_(y).mul_(y2).mul_(outer).mul_(1 + w)
    by_sigma = by_t2.mul_(GAMMA)
    by_rho = eps + h - eps_slope.mul_(1 / 3).mul_(1 - by_eps) - (t2 * by_sigma).mul_(7 / 3)
    f = d.rho * (eps + h)
    return f, by_rho, by_sigma.mul(d.inverse43).mul_(T2_FACTOR * (beta / GAMMA))


def _polarised_first(d: Polarised, beta: float) -> tuple[Tensor, ...]:
    """Energy per volume and its derivatives by the five spin-resolved variables.

    As for the closed shell, with gamma phi^3 for gamma and t^2 that contains phi^-2.
    """
    eps, by_rs, by_zeta = PW92_MOD.polarised_first(d)
    g = (d.phi * d.phi * d.phi).mul_(GAMMA)
    per_sigma = (T2_FACTOR * beta / GAMMA) / (d.rho * d.rho * d.rho13 * d.phi * d.phi)
    t2 = per_sigma * d.sigma
    w = torch.expm1(-eps / g)
    y = t2 / w
    y2 = y * y
    p_inverse = (1 + y + y2).reciprocal_()
    inner = t2 * (1 + y) * p_inverse
    h = torch.log1p(inner).mul_(g)
    outer = p_inverse.mul_(p_inverse).div_(1 + inner)
    by_t2 = (1 + 2 * y).mul_(outer).mul_(g)
    # derivative of h by eps at fixed phi, and by ln phi at fixed eps, t^2 included
    by_eps = (2 + y).mul_(y).mul_(y2).mul_(outer).mul_(1 + w).neg_()
    by_log_phi = 3 * h - 3 * eps * by_eps - 2 * t2 * by_t2
    by_zeta = by_zeta * (1 + by_eps) + by_log_phi * d.phi_slope / d.phi
    by_rs = by_rs * (1 + by_eps) + 7 * t2 * by_t2
    by_sigma = per_sigma.mul_(by_t2).mul_(d.rho)
    total = eps + h
    by_rho = d.potentials(total, by_rs, by_zeta)
    return d.rho * total, *by_rho, by_sigma, 2 * by_sigma, by_sigma.clone()


def _component(name: str, libxc_id: int, beta: float) -> Component:
    return Component(
        name=name,
        libxc_id=libxc_id,
        kind="GGA",
        threshold=1e-12,
        closed_shell=lambda d: d.rho * pbe_correlation_unpolarised(d, beta),
        polarised=lambda d: d.rho * pbe_correlation_polarised(d, beta),
        closed_shell_first=lambda d: _first(d, beta),
        polarised_first=lambda d: _polarised_first(d, beta),
    )


COMPONENTS = (
    _component("GGA_C_PBE", 130, BETA),
    _component("GGA_C_PBE_SOL", 133, BETA_SOL),
)
