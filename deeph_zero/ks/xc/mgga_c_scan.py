"""SCAN correlation: libxc MGGA_C_SCAN (267).

References:
    J. Sun, A. Ruzsinszky, J. P. Perdew, Phys. Rev. Lett. 115, 036402 (2015), supplement,
    doi:10.1103/PhysRevLett.115.036402.
"""

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density import ClosedShell, Polarised
from deeph_zero.ks.xc.gga_c_pbe import BETA, GAMMA, T2_FACTOR
from deeph_zero.ks.xc.gga_x_pbe import S2_FACTOR
from deeph_zero.ks.xc.lda_c_pw import PW92_MOD
from deeph_zero.ks.xc.mgga_x_scan import Switch
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
    ),
)
