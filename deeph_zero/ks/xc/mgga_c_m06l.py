"""M06-L correlation: libxc MGGA_C_M06_L (233).

References:
    Y. Zhao, D. G. Truhlar, J. Chem. Phys. 125, 194101 (2006), eqs. (12)-(19),
    doi:10.1063/1.2370993.
"""

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density_variables import RS_FACTOR, ClosedShell, Polarised
from deeph_zero.ks.xc.gga_xc_b97 import power_series
from deeph_zero.ks.xc.lda_c_pw import PW92_MOD
from deeph_zero.ks.xc.mgga_x_m06l import TAU_UNIFORM_SPIN, vs98

GAMMA_SAME, GAMMA_OPPOSITE = 0.06, 0.0031
ALPHA_SAME, ALPHA_OPPOSITE = 0.00515088, 0.00304966
C_SAME = (0.5349466, 0.5396620, -31.61217, 51.49592, -29.19613)
C_OPPOSITE = (0.6042374, 177.6783, -251.3252, 76.35173, -12.55699)
D_SAME = (0.4650534, 0.1617589, 0.1833657, 0.00046921000, -0.004990573, 0.0)
D_OPPOSITE = (0.3957626, -0.5614546, 0.01403963, 0.0009831442, -0.003577176, 0.0)
_TAU_CUT = 1e-10
"""Reduced tau below which the power-series part of a channel is switched off, as in libxc."""


def _channel(
    rho: Tensor, rho13: Tensor, sigma: Tensor, tau: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One spin: energy per volume, its uniform-gas correlation, x^2 and z."""
    rho43 = rho * rho13
    x2 = sigma / (rho43 * rho43)
    t = tau / (rho43 * rho13)
    z = 2 * (t - TAU_UNIFORM_SPIN)
    rs = RS_FACTOR / rho13
    uniform = rho * PW92_MOD.ferro.energy(rs, torch.sqrt(rs))
    # 1 - tau_W / tau removes the self-correlation of one electron
    hole = 1 - x2 / (8 * t)
    cut = -torch.expm1(-4 / _TAU_CUT**2 * t * t)
    same = power_series(C_SAME, GAMMA_SAME, x2) * cut + vs98(D_SAME, ALPHA_SAME, x2, z)
    return uniform * same * hole, uniform, x2, z


def _opposite(x2: Tensor, z: Tensor) -> Tensor:
    series = power_series(C_OPPOSITE, GAMMA_OPPOSITE, x2)
    return series + vs98(D_OPPOSITE, ALPHA_OPPOSITE, x2, z)


def _m06l_closed_shell(d: ClosedShell) -> Tensor:
    assert d.sigma is not None
    assert d.tau is not None
    one, uniform, x2, z = _channel(d.rho / 2, d.rho13 / 2 ** (1 / 3), d.sigma / 4, d.tau / 2)
    alive = d.rho > 2 * d.threshold
    one, uniform = torch.where(alive, one, 0.0), torch.where(alive, uniform, 0.0)
    between = d.rho * PW92_MOD.unpolarised(d) - 2 * uniform
    return 2 * one + between * _opposite(2 * x2, 2 * z)


def _m06l_polarised(d: Polarised) -> Tensor:
    assert d.sigma_aa is not None
    assert d.sigma_bb is not None
    assert d.tau_a is not None
    assert d.tau_b is not None
    one_a, uniform_a, x2_a, z_a = _channel(d.rho_a, d.rho13_a, d.sigma_aa, d.tau_a)
    one_b, uniform_b, x2_b, z_b = _channel(d.rho_b, d.rho13_b, d.sigma_bb, d.tau_b)
    own = torch.where(d.alive_a, one_a, 0.0) + torch.where(d.alive_b, one_b, 0.0)
    uniform = torch.where(d.alive_a, uniform_a, 0.0) + torch.where(d.alive_b, uniform_b, 0.0)
    between = d.rho * PW92_MOD.polarised(d) - uniform
    return own + between * _opposite(x2_a + x2_b, z_a + z_b)


COMPONENTS = (
    Component(
        name="MGGA_C_M06_L",
        libxc_id=233,
        kind="MGGA",
        threshold=1e-12,
        closed_shell=_m06l_closed_shell,
        polarised=_m06l_polarised,
    ),
)
