"""r2SCAN correlation: libxc MGGA_C_R2SCAN (498).

References:
    J. W. Furness, A. D. Kaplan, J. Ning, J. P. Perdew, J. Sun, J. Phys. Chem. Lett. 11, 8208
    (2020), supplement eqs. (S24)-(S41), doi:10.1021/acs.jpclett.0c02405.
"""

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density import ClosedShell, Polarised
from deeph_zero.ks.xc.gga_c_pbe import GAMMA, T2_FACTOR
from deeph_zero.ks.xc.gga_x_pbe import S2_FACTOR
from deeph_zero.ks.xc.lda_c_pw import PW92_MOD
from deeph_zero.ks.xc.mgga_c_scan import (
    B1C,
    B2C,
    B3C,
    CORRELATION_SWITCH,
    beta_of_rs,
    lda0,
    one_minus_g,
    single_orbital,
    spin_factor,
)
from deeph_zero.ks.xc.mgga_x_r2scan import DP2, ETA, SmoothSwitch
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
    ),
)
