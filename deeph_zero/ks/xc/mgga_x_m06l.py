"""M06-L exchange: libxc MGGA_X_M06_L (203), and the van Voorhis-Scuseria form it is built on.

References:
    Y. Zhao, D. G. Truhlar, J. Chem. Phys. 125, 194101 (2006), eqs. (3)-(11),
    doi:10.1063/1.2370993; T. Van Voorhis, G. E. Scuseria, J. Chem. Phys. 109, 400 (1998), eq. (24),
    doi:10.1063/1.476577.
"""

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import exchange_component
from deeph_zero.ks.xc.gga_x_pbe import KAPPA, MU, S2_FACTOR
from deeph_zero.ks.xc.lda_x import SLATER
from deeph_zero.ks.xc.mgga_x_tpss import TAU_UNIFORM

TAU_UNIFORM_SPIN = 2 ** (2 / 3) * TAU_UNIFORM
"""Uniform-gas tau of one spin channel = TAU_UNIFORM_SPIN * rho_s^(5/3)."""
ALPHA = 0.00186726
_W = (
    0.3987756,
    0.2548219,
    0.3923994,
    -2.103655,
    -6.302147,
    10.97615,
    30.97273,
    -23.18489,
    -56.73480,
    21.60364,
    34.21814,
    -9.049762,
)
_D = (0.6012244, 0.004748822, -0.008635108, -0.000009308062, 0.00004482811, 0.0)


def vs98(d: tuple[float, ...], alpha: float, x2: Tensor, z: Tensor) -> Tensor:
    """h(x, z) of van Voorhis and Scuseria.

    Args:
        d: Its six coefficients.
        alpha: Scale of x^2 + z.
        x2: Squared reduced gradient, summed over the spins it belongs to, [ngrids].
        z: 2 (tau - tau_uniform) / rho_s^(5/3), summed alike, [ngrids].

    Returns:
        [ngrids].
    """
    inverse = 1 / (1 + alpha * (x2 + z))
    third = inverse * (x2 * (d[3] * x2 + d[4] * z) + d[5] * z * z)
    return inverse * (d[0] + inverse * (d[1] * x2 + d[2] * z + third))


def m06l_exchange(rho: Tensor, rho13: Tensor, sigma: Tensor | None, tau: Tensor | None) -> Tensor:
    """Exchange energy per volume of a closed shell, [ngrids], Eh / bohr^3."""
    assert sigma is not None
    assert tau is not None
    rho43 = rho * rho13
    reduced = sigma / (rho43 * rho43)
    pbe = 1 + KAPPA - KAPPA / (1 + MU * S2_FACTOR / KAPPA * reduced)
    t = 2 ** (2 / 3) * tau / (rho43 * rho13)
    w = (TAU_UNIFORM_SPIN - t) / (TAU_UNIFORM_SPIN + t)
    series = torch.full_like(w, _W[-1])
    for coefficient in reversed(_W[:-1]):
        series = series * w + coefficient
    h = vs98(_D, ALPHA, 2 ** (2 / 3) * reduced, 2 * (t - TAU_UNIFORM_SPIN))
    return SLATER * rho43 * (pbe * series + h)


COMPONENTS = (exchange_component("MGGA_X_M06_L", 203, "MGGA", m06l_exchange),)
