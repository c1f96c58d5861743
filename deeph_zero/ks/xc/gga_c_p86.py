"""Perdew 1986 correlation: libxc GGA_C_P86 (132).

The uniform-gas part is Perdew and Zunger's.

References:
    J. P. Perdew, Phys. Rev. B 33, 8822 (1986), eqs. (1)-(9), doi:10.1103/PhysRevB.33.8822; the
    erratum 34, 7406 corrects 2^(1/3) in d.
"""

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density_variables import ClosedShell, Polarised
from deeph_zero.ks.xc.lda_c_pz import pz_polarised, pz_unpolarised

AA, BB = 0.001667, 0.002568
ALPHA, BETA, GAMMA, DELTA = 0.023266, 7.389e-6, 8.723, 0.472
F_TILDE = 0.19195
"""1.745 * 0.11 of the paper."""


def gradient_term(rs: Tensor, rho: Tensor, rho13: Tensor, sigma: Tensor) -> Tensor:
    """exp(-Phi) C(n) |grad n|^2 / n^(7/3), per electron and without the 1/d of spin, Eh.

    Args:
        rs: Wigner-Seitz radius, bohr.
        rho: Total density.
        rho13: Its cube root.
        sigma: Squared gradient of the total density.

    Returns:
        [ngrids].
    """
    numerator = BB + rs * (ALPHA + BETA * rs)
    c = AA + numerator / (1 + rs * (GAMMA + rs * (DELTA + 1e4 * BETA * rs)))
    x2 = sigma / (rho * rho * rho13)
    phi = F_TILDE * (AA + BB) * torch.sqrt(x2) / c
    return torch.exp(-phi) * c * x2


def _p86_closed_shell(d: ClosedShell) -> Tensor:
    assert d.sigma is not None
    return d.rho * (pz_unpolarised(d) + gradient_term(d.rs, d.rho, d.rho13, d.sigma))


def _p86_polarised(d: Polarised) -> Tensor:
    gradient = gradient_term(d.rs, d.rho, d.rho13, d.sigma) / torch.sqrt(d.d_s)
    return d.rho * (pz_polarised(d) + gradient)


COMPONENTS = (
    Component(
        name="GGA_C_P86",
        libxc_id=132,
        kind="GGA",
        threshold=1e-15,
        closed_shell=_p86_closed_shell,
        polarised=_p86_polarised,
    ),
)
