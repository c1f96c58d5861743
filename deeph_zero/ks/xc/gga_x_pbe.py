"""Perdew-Burke-Ernzerhof exchange: libxc GGA_X_PBE (101).

References:
    J. P. Perdew, K. Burke, M. Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996), eq. (14),
    doi:10.1103/PhysRevLett.77.3865.
"""

import math

from torch import Tensor

from deeph_zero.ks.xc.component import exchange_component
from deeph_zero.ks.xc.lda_x import SLATER

KAPPA = 0.804
MU = 0.06672455060314922 * math.pi**2 / 3
S2_FACTOR = 1 / (4 * (3 * math.pi**2) ** (2 / 3))
"""s^2 = S2_FACTOR * sigma / rho^(8/3)."""


def pbe_exchange(
    rho: Tensor,
    rho13: Tensor,
    sigma: Tensor | None,
    tau: Tensor | None = None,  # noqa: ARG001 - one signature for all exchange functionals
) -> Tensor:
    """Exchange energy per volume, uniform gas times F(s) = 1 + kappa mu s^2 / (kappa + mu s^2)."""
    assert sigma is not None
    rho43 = rho * rho13
    # x = mu s^2 / kappa
    x = (MU * S2_FACTOR / KAPPA) * sigma / (rho43 * rho43)
    return SLATER * rho43 * (1 + KAPPA - KAPPA / (1 + x))


COMPONENTS = (exchange_component("GGA_X_PBE", 101, "GGA", pbe_exchange),)
