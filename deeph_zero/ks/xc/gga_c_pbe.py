"""Perdew-Burke-Ernzerhof correlation: libxc GGA_C_PBE (130), and for solids _PBE_SOL (133).

References:
    J. P. Perdew, K. Burke, M. Ernzerhof, Phys. Rev. Lett. 77, 3865 (1996), eqs. (3), (7), (8),
    doi:10.1103/PhysRevLett.77.3865. beta and gamma with all digits, as in libxc;
    J. P. Perdew et al., Phys. Rev. Lett. 100, 136406 (2008), doi:10.1103/PhysRevLett.100.136406.
"""

import math

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density import ClosedShell, Polarised
from deeph_zero.ks.xc.lda_c_pw import PW92_MOD

BETA = 0.06672455060314922
BETA_SOL = 0.046
GAMMA = (1 - math.log(2)) / math.pi**2
T2_FACTOR = (math.pi / 3) ** (1 / 3) / 16
"""t^2 = T2_FACTOR * sigma / (phi^2 rho^(7/3))."""


def gradient_correction(
    eps_lda: Tensor, t2_phi2: Tensor, phi: Tensor | float, beta: float = BETA
) -> Tensor:
    """H of eq. (7), Eh per electron.

    Args:
        eps_lda: Uniform-gas correlation energy per electron, [ngrids], Eh.
        t2_phi2: t^2 phi^2 = T2_FACTOR sigma / rho^(7/3), [ngrids].
        phi: Spin scaling factor, [ngrids] or a number.
        beta: Gradient coefficient.

    Returns:
        H, [ngrids].
    """
    t2 = t2_phi2 / (phi * phi)
    gamma_phi3 = GAMMA * phi * phi * phi
    at2 = (beta / GAMMA) * t2 / torch.expm1(-eps_lda / gamma_phi3)
    inner = (beta / GAMMA) * t2 * (1 + at2) / (1 + at2 * (1 + at2))
    return gamma_phi3 * torch.log1p(inner)


def pbe_correlation_unpolarised(d: ClosedShell, beta: float = BETA) -> Tensor:
    """Correlation energy per electron at zeta = 0, [ngrids], Eh."""
    assert d.sigma is not None
    eps = PW92_MOD.unpolarised(d)
    t2 = T2_FACTOR * d.sigma / (d.rho * d.rho * d.rho13)
    return eps + gradient_correction(eps, t2, 1.0, beta)


def pbe_correlation_polarised(d: Polarised, beta: float = BETA) -> Tensor:
    """Correlation energy per electron, [ngrids], Eh."""
    eps = PW92_MOD.polarised(d)
    t2_phi2 = T2_FACTOR * d.sigma / (d.rho * d.rho * d.rho13)
    return eps + gradient_correction(eps, t2_phi2, d.phi, beta)


def _component(name: str, libxc_id: int, beta: float) -> Component:
    return Component(
        name=name,
        libxc_id=libxc_id,
        kind="GGA",
        threshold=1e-12,
        closed_shell=lambda d: d.rho * pbe_correlation_unpolarised(d, beta),
        polarised=lambda d: d.rho * pbe_correlation_polarised(d, beta),
    )


COMPONENTS = (
    _component("GGA_C_PBE", 130, BETA),
    _component("GGA_C_PBE_SOL", 133, BETA_SOL),
)
