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

from deeph_zero.ks.xc.component import (
    Component,
    FirstDerivatives,
    SpinSummedExchange,
    exchange_component,
)
from deeph_zero.ks.xc.density_variables import ClosedShell
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


def pbe_form_first(kappa: float, mu: float) -> FirstDerivatives:
    """Energy and derivatives by rho and sigma; arguments as in :func:`pbe_form`."""

    def first(d: ClosedShell) -> tuple[Tensor, Tensor, Tensor]:
        assert d.sigma is not None
        x = (d.sigma * d.inverse43).mul_(d.inverse43).mul_(mu * S2_FACTOR / kappa)
        falling = (1 + x).reciprocal_()  # kappa / (kappa + mu s^2)
        enhancement = (1 + kappa) - kappa * falling
        slope = falling.mul_(falling).mul_(kappa)  # dF/dx
        by_rho = (enhancement - x.mul_(slope).mul_(2)).mul_(d.rho13).mul_(4 / 3 * SLATER)
        by_sigma = slope.mul_(d.inverse43).mul_(SLATER * mu * S2_FACTOR / kappa)
        return enhancement.mul_(d.rho43).mul_(SLATER), by_rho, by_sigma

    return first


def _component(name: str, libxc_id: int, kappa: float, mu: float) -> Component:
    return exchange_component(
        name, libxc_id, "GGA", pbe_form(kappa, mu), first=pbe_form_first(kappa, mu)
    )


COMPONENTS = (
    _component("GGA_X_PBE", 101, KAPPA, MU),
    _component("GGA_X_PBE_R", 102, KAPPA_REVISED, MU),
    _component("GGA_X_PBE_SOL", 116, KAPPA, MU_GE),
)
