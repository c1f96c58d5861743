"""Exchange of Perdew, Burke, Ernzerhof and kin: libxc GGA_X_PBE (101), _R (102), _SOL (116).

revPBE (PBE_R) changes kappa, PBEsol mu.

References:
    J. P. Perdew, K. Burke, M. Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996), eq. (14),
    doi:10.1103/PhysRevLett.77.3865; Y. Zhang, W. Yang, Phys. Rev. Lett. 80, 890 (1998),
    doi:10.1103/PhysRevLett.80.890; J. P. Perdew et al., Phys. Rev. Lett. 100, 136406 (2008),
    doi:10.1103/PhysRevLett.100.136406.
"""

import math

from torch import Tensor

from deeph_zero.ks.xc.component import SpinSummedExchange, exchange_component
from deeph_zero.ks.xc.lda_x import SLATER

KAPPA = 0.804
MU = 0.06672455060314922 * math.pi**2 / 3
KAPPA_REVISED = 1.245
MU_GE = 10 / 81
"""Gradient expansion of the slowly varying gas."""
S2_FACTOR = 1 / (4 * (3 * math.pi**2) ** (2 / 3))
"""s^2 = S2_FACTOR * sigma / rho^(8/3)."""


def pbe_form(kappa: float, mu: float) -> SpinSummedExchange:
    """Uniform gas times F(s) = 1 + kappa mu s^2 / (kappa + mu s^2), for given constants.

    Args:
        kappa: Largest enhancement less one.
        mu: Coefficient of s^2 at s = 0.

    Returns:
        Exchange energy per volume of a closed shell as a function of (rho, rho^(1/3), sigma, tau).
    """

    def exchange(
        rho: Tensor,
        rho13: Tensor,
        sigma: Tensor | None,
        tau: Tensor | None = None,  # noqa: ARG001 - one signature for all exchange functionals
    ) -> Tensor:
        assert sigma is not None
        rho43 = rho * rho13
        # x = mu s^2 / kappa
        x = (mu * S2_FACTOR / kappa) * sigma / (rho43 * rho43)
        return SLATER * rho43 * (1 + kappa - kappa / (1 + x))

    return exchange


COMPONENTS = (
    exchange_component("GGA_X_PBE", 101, "GGA", pbe_form(KAPPA, MU)),
    exchange_component("GGA_X_PBE_R", 102, "GGA", pbe_form(KAPPA_REVISED, MU)),
    exchange_component("GGA_X_PBE_SOL", 116, "GGA", pbe_form(KAPPA, MU_GE)),
)
