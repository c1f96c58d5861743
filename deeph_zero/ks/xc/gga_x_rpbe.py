"""Hammer-Hansen-Norskov exchange: libxc GGA_X_RPBE (117).

References:
    B. Hammer, L. B. Hansen, J. K. Norskov, Phys. Rev. B 59, 7413 (1999), eq. (15),
    doi:10.1103/PhysRevB.59.7413. Constants of PBE.
"""

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import exchange_component
from deeph_zero.ks.xc.gga_x_pbe import KAPPA, MU, S2_FACTOR
from deeph_zero.ks.xc.lda_x import SLATER


def rpbe_exchange(
    rho: Tensor,
    rho13: Tensor,
    sigma: Tensor | None,
    tau: Tensor | None = None,  # noqa: ARG001 - one signature for all exchange functionals
) -> Tensor:
    """Exchange energy per volume, uniform gas times 1 + kappa (1 - exp(-mu s^2 / kappa))."""
    assert sigma is not None
    rho43 = rho * rho13
    x = (MU * S2_FACTOR / KAPPA) * sigma / (rho43 * rho43)
    return SLATER * rho43 * (1 + KAPPA - KAPPA * torch.exp(-x))


COMPONENTS = (exchange_component("GGA_X_RPBE", 117, "GGA", rpbe_exchange),)
