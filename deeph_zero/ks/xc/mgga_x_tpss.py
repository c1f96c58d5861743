"""Tao-Perdew-Staroverov-Scuseria exchange: libxc MGGA_X_TPSS (202).

References:
    J. Tao, J. P. Perdew, V. N. Staroverov, G. E. Scuseria, Phys. Rev. Lett. 91, 146401 (2003),
    eqs. (5)-(10), doi:10.1103/PhysRevLett.91.146401.
"""

import math

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import exchange_component
from deeph_zero.ks.xc.gga_x_pbe import KAPPA, MU_GE, S2_FACTOR
from deeph_zero.ks.xc.lda_x import SLATER

B, C, E = 0.40, 1.59096, 1.537
MU = 0.21951
TAU_UNIFORM = 0.3 * (3 * math.pi**2) ** (2 / 3)
"""Uniform-gas tau = TAU_UNIFORM * rho^(5/3)."""


def tpss_exchange(rho: Tensor, rho13: Tensor, sigma: Tensor | None, tau: Tensor | None) -> Tensor:
    """Exchange energy per volume of a closed shell, [ngrids], Eh / bohr^3."""
    assert sigma is not None
    assert tau is not None
    rho43 = rho * rho13
    p_per_sigma = S2_FACTOR / (rho43 * rho43)
    z_per_sigma = 1 / (8 * rho * tau)
    p = p_per_sigma * sigma
    z = z_per_sigma * sigma
    z2 = z * z
    alpha = tau * (1 - z) / (TAU_UNIFORM * rho * rho13 * rho13)
    q_b = 0.45 * (alpha - 1) / torch.sqrt(1 + B * alpha * (alpha - 1)) + 2 / 3 * p
    # sqrt((3 z / 5)^2 / 2 + p^2 / 2), written so that sigma = 0 is a regular point
    root = sigma * torch.sqrt(0.18 * z_per_sigma * z_per_sigma + 0.5 * p_per_sigma * p_per_sigma)
    numerator = (
        (MU_GE + C * z2 / (1 + z2) ** 2) * p
        + 146 / 2025 * q_b * q_b
        - 73 / 405 * q_b * root
        + MU_GE**2 / KAPPA * p * p
        + 2 * math.sqrt(E) * MU_GE * 0.36 * z2
        + E * MU * p * p * p
    )
    x = numerator / (1 + math.sqrt(E) * p) ** 2
    return SLATER * rho43 * (1 + KAPPA - KAPPA / (1 + x / KAPPA))


COMPONENTS = (exchange_component("MGGA_X_TPSS", 202, "MGGA", tpss_exchange),)
