"""Slater exchange of the uniform electron gas: libxc LDA_X (1).

References:
    P. A. M. Dirac, Math. Proc. Cambridge Philos. Soc. 26, 376 (1930),
    doi:10.1017/S0305004100016108; J. C. Slater, Phys. Rev. 81, 385 (1951),
    doi:10.1103/PhysRev.81.385.
"""

import math

from torch import Tensor

from deeph_zero.ks.xc.component import exchange_component
from deeph_zero.ks.xc.density_variables import ClosedShell

SLATER = -0.75 * (3 / math.pi) ** (1 / 3)
"""Exchange energy per volume = SLATER * rho^(4/3)."""


def slater_exchange(
    rho: Tensor,
    rho13: Tensor,
    sigma: Tensor | None = None,  # noqa: ARG001 - one signature for all exchange functionals
    tau: Tensor | None = None,  # noqa: ARG001
) -> Tensor:
    """Exchange energy per volume -3/4 (3/pi)^(1/3) rho^(4/3), [ngrids]."""
    return SLATER * rho * rho13


def slater_first(d: ClosedShell) -> tuple[Tensor, Tensor]:
    """Energy per volume and its derivative by rho."""
    return SLATER * d.rho43, (4 / 3 * SLATER) * d.rho13


COMPONENTS = (exchange_component("LDA_X", 1, "LDA", slater_exchange, first=slater_first),)
