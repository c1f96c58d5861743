"""Short-range Becke 1988 exchange: libxc GGA_X_ITYH (529), for CAM-B3LYP and LC-BLYP.

The gradient correction enters twice: as enhancement, and through a shorter effective Fermi
wavelength in the attenuation.

References:
    H. Iikura, T. Tsuneda, T. Yanai, K. Hirao, J. Chem. Phys. 115, 3540 (2001), eqs. (12)-(17),
    doi:10.1063/1.1383587.
"""

import math

import torch
from torch import Tensor

from deeph_zero.ks.xc.attenuation import erf_attenuation
from deeph_zero.ks.xc.component import Component, exchange_component
from deeph_zero.ks.xc.gga_x_b88 import becke_exchange


def short_range_becke(omega: float) -> Component:
    """The functional for one range-separation parameter.

    Args:
        omega: Range-separation parameter, 1/bohr.

    Returns:
        A component; libxc's own default is omega = 0.2.
    """
    # k_GGA^2 = 9 pi rho_s^2 / (-2 e_x of that spin) per volume
    k2_factor = 9 * math.pi / 4

    def exchange(
        rho: Tensor,
        rho13: Tensor,
        sigma: Tensor | None,
        tau: Tensor | None = None,  # noqa: ARG001 - one signature for all exchange functionals
    ) -> Tensor:
        full = becke_exchange(rho, rho13, sigma)
        a = (0.5 * omega / math.sqrt(k2_factor)) * torch.sqrt(-full) / rho
        return full * erf_attenuation(a)

    return exchange_component("GGA_X_ITYH", 529, "GGA", exchange, threshold=1e-14)


COMPONENTS = (short_range_becke(0.2),)
VARIANTS = {f"GGA_X_ITYH({omega})": short_range_becke(omega) for omega in (0.33,)}
"""Other parameters, as composite functionals use them; the name in brackets is ours."""
