"""Lee-Yang-Parr correlation: libxc GGA_C_LYP (131).

In the form of Miehlich et al. that has no second derivatives of the density. Its last bracket is
written with sigma_ab, so that nothing cancels when one spin density vanishes.

References:
    C. Lee, W. Yang, R. G. Parr, Phys. Rev. B 37, 785 (1988), doi:10.1103/PhysRevB.37.785;
    B. Miehlich, A. Savin, H. Stoll, H. Preuss, Chem. Phys. Lett. 157, 200 (1989), eq. (2),
    doi:10.1016/0009-2614(89)87234-3.
"""

import math

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density_variables import ClosedShell, Polarised

A, B, C, D = 0.04918, 0.132, 0.2533, 0.349
C_F = 0.3 * (3 * math.pi**2) ** (2 / 3)


def _lyp_closed_shell(d: ClosedShell) -> Tensor:
    assert d.sigma is not None
    inverse13 = 1 / d.rho13
    damping = 1 / (1 + D * inverse13)
    delta = inverse13 * (C + D * damping)
    # rho^(11/3) omega = exp(-c rho^(-1/3)) damping is pulled out: no large powers
    local = C_F * d.rho
    gradient = -d.sigma * inverse13**5 * (3 + 7 * delta) / 72
    return -A * damping * (d.rho + B * torch.exp(-C * inverse13) * (local + gradient))


def _first(d: ClosedShell) -> tuple[Tensor, Tensor, Tensor]:
    """Energy per volume of a closed shell and its derivatives by rho and sigma."""
    assert d.sigma is not None
    # every rho df/drho is -1/3 of i df/di where i = rho^(-1/3)
    i = d.rho13.reciprocal()
    damping = (1 + D * i).reciprocal_()
    delta = i * (C + D * damping)
    delta_slope = i * (C + D * damping * damping)
    gradient = (d.sigma * i).mul_(d.inverse43).mul_(1 / 72)
    seven = (3 + 7 * delta).mul_(gradient)
    scaled = torch.exp(-C * i).mul_(B)
    bracket = C_F * d.rho - seven
    inner = (scaled * bracket).add_(d.rho)
    # rho d/drho of the bracket
    slope = C_F * d.rho + (5 / 3) * seven + (7 / 3) * gradient.mul_(delta_slope)
    slope = slope.add_(bracket.mul_(i), alpha=C / 3).mul_(scaled).add_(d.rho)
    prefactor = damping * -A
    by_rho = slope.add_((inner * i).mul_(damping), alpha=D / 3).mul_(prefactor).div_(d.rho)
    by_sigma = (3 + 7 * delta).mul_(scaled).mul_(prefactor).mul_(i).mul_(d.inverse43)
    return inner.mul_(prefactor), by_rho, by_sigma.mul_(-1 / 72)


def _lyp_polarised(d: Polarised) -> Tensor:
    assert d.sigma_aa is not None
    assert d.sigma_ab is not None
    assert d.sigma_bb is not None
    inverse13 = 1 / d.rho13
    damping = 1 / (1 + D * inverse13)
    delta = inverse13 * (C + D * damping)
    pair = d.zeta_a * d.zeta_b / 4  # rho_a rho_b / rho^2
    kinetic = 2 ** (11 / 3) * C_F * (d.rho13_a**8 + d.rho13_b**8)
    spin_sum = d.sigma_aa + d.sigma_bb
    weighted = 0.5 * (d.zeta_a * d.sigma_aa + d.zeta_b * d.sigma_bb)
    gradient = (47 - 7 * delta) / 18 * d.sigma - (2.5 - delta / 18) * spin_sum
    gradient = gradient - (delta - 11) / 9 * weighted
    rest = 4 / 3 * d.sigma_ab + 0.25 * (d.zeta_a**2 * d.sigma_bb + d.zeta_b**2 * d.sigma_aa)
    bracket = inverse13**5 * (pair * (kinetic + gradient) - rest)
    return -A * damping * (4 * pair * d.rho + B * torch.exp(-C * inverse13) * bracket)


COMPONENTS = (
    Component(
        name="GGA_C_LYP",
        libxc_id=131,
        kind="GGA",
        threshold=1e-14,
        closed_shell=_lyp_closed_shell,
        polarised=_lyp_polarised,
        closed_shell_first=_first,
    ),
)
