"""Becke's 1997 power series and its range-separated form: libxc's B97, HCTH and wB97 families.

One series in u = gamma x^2 / (1 + gamma x^2) multiplies each of: the exchange of a spin channel,
its own correlation, and the correlation between the channels. In the wB97 functionals the exchange
is that of the short-range operator.

References:
    A. D. Becke, J. Chem. Phys. 107, 8554 (1997), doi:10.1063/1.475007; F. A. Hamprecht et al.,
    J. Chem. Phys. 109, 6264 (1998), doi:10.1063/1.477267 (B97-1, HCTH/93); P. J. Wilson et al.,
    J. Chem. Phys. 115, 9233 (2001), doi:10.1063/1.1412605 (B97-2); T. W. Keal, D. J. Tozer,
    J. Chem. Phys. 123, 121103 (2005), doi:10.1063/1.2061227 (B97-3); A. D. Boese, N. C. Handy,
    J. Chem. Phys. 114, 5497 (2001), doi:10.1063/1.1347371 (HCTH/407); S. Grimme, J. Comput. Chem.
    27, 1787 (2006), doi:10.1002/jcc.20495 (B97-D); J.-D. Chai, M. Head-Gordon, J. Chem. Phys. 128,
    084106 (2008), doi:10.1063/1.2834918 (wB97, wB97X) and Phys. Chem. Chem. Phys. 10, 6615 (2008),
    doi:10.1039/b810189b (wB97X-D); Y.-S. Lin et al., J. Chem. Theory Comput. 9, 263 (2013),
    doi:10.1021/ct300715s (wB97X-D3).
"""

import dataclasses
import math

import torch
from torch import Tensor

from deeph_zero.ks.xc.attenuation import erf_attenuation
from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density_variables import RS_FACTOR, ClosedShell, Polarised
from deeph_zero.ks.xc.lda_c_pw import PW92
from deeph_zero.ks.xc.lda_x import SLATER

GAMMA_X, GAMMA_SAME, GAMMA_OPPOSITE = 0.004, 0.2, 0.006


def power_series(coefficients: tuple[float, ...], gamma: float, x2: Tensor) -> Tensor:
    """sum_i c_i u^i with u = gamma x^2 / (1 + gamma x^2).

    Args:
        coefficients: c_0, c_1, ...
        gamma: Scale of the reduced gradient.
        x2: x^2 = sigma_s / rho_s^(8/3), [ngrids].

    Returns:
        [ngrids].
    """
    u = gamma * x2 / (1 + gamma * x2)
    total = torch.full_like(u, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * u + coefficient
    return total


@dataclasses.dataclass(frozen=True)
class PowerSeries:
    """Coefficients of one member of the family.

    Attributes:
        exchange: Coefficients of the exchange of one spin channel.
        same: Coefficients of the correlation inside one spin channel.
        opposite: Coefficients of the correlation between the channels.
        omega: Range-separation parameter, 1/bohr; 0 for exchange of the full operator.
    """

    exchange: tuple[float, ...]
    same: tuple[float, ...]
    opposite: tuple[float, ...]
    omega: float = 0.0

    def channel(self, rho: Tensor, rho13: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One spin: energy per volume, its uniform-gas correlation, and x^2."""
        x2 = sigma / (rho * rho13) ** 2
        exchange = 2 ** (1 / 3) * SLATER * rho * rho13
        if self.omega:
            exchange = exchange * erf_attenuation(
                self.omega / 2 / (6 * math.pi**2) ** (1 / 3) / rho13
            )
        rs = RS_FACTOR / rho13
        uniform = rho * PW92.ferro.energy(rs, torch.sqrt(rs))
        same = uniform * power_series(self.same, GAMMA_SAME, x2)
        return exchange * power_series(self.exchange, GAMMA_X, x2) + same, uniform, x2

    def closed_shell(self, d: ClosedShell) -> Tensor:
        """Energy per volume, [ngrids], Eh / bohr^3."""
        assert d.sigma is not None
        one, uniform, x2 = self.channel(d.rho / 2, d.rho13 / 2 ** (1 / 3), d.sigma / 4)
        alive = d.rho > 2 * d.threshold
        one, uniform = torch.where(alive, one, 0.0), torch.where(alive, uniform, 0.0)
        between = d.rho * PW92.unpolarised(d) - 2 * uniform
        return 2 * one + between * power_series(self.opposite, GAMMA_OPPOSITE, x2)

    def polarised(self, d: Polarised) -> Tensor:
        """Energy per volume, [ngrids], Eh / bohr^3."""
        assert d.sigma_aa is not None
        assert d.sigma_bb is not None
        one_a, uniform_a, x2_a = self.channel(d.rho_a, d.rho13_a, d.sigma_aa)
        one_b, uniform_b, x2_b = self.channel(d.rho_b, d.rho13_b, d.sigma_bb)
        own = torch.where(d.alive_a, one_a, 0.0) + torch.where(d.alive_b, one_b, 0.0)
        uniform = torch.where(d.alive_a, uniform_a, 0.0) + torch.where(d.alive_b, uniform_b, 0.0)
        between = d.rho * PW92.polarised(d) - uniform
        return own + between * power_series(self.opposite, GAMMA_OPPOSITE, (x2_a + x2_b) / 2)


def _component(name: str, libxc_id: int, series: PowerSeries) -> Component:
    return Component(
        name=name,
        libxc_id=libxc_id,
        kind="GGA",
        threshold=1e-14,
        closed_shell=series.closed_shell,
        polarised=series.polarised,
    )


COMPONENTS = (
    _component(
        "HYB_GGA_XC_B97",
        407,
        PowerSeries((0.8094, 0.5073, 0.7481), (0.1737, 2.3487, -2.4868), (0.9454, 0.7471, -4.5961)),
    ),
    _component(
        "HYB_GGA_XC_B97_1",
        408,
        PowerSeries(
            (0.789518, 0.573805, 0.660975),
            (0.0820011, 2.71681, -2.87103),
            (0.955689, 0.788552, -5.47869),
        ),
    ),
    _component(
        "HYB_GGA_XC_B97_2",
        410,
        PowerSeries(
            (0.827642, 0.04784, 1.76125),
            (0.585808, -0.691682, 0.394796),
            (0.999849, 1.40626, -7.4406),
        ),
    ),
    _component(
        "HYB_GGA_XC_B97_3",
        414,
        PowerSeries(
            (0.7334648, 0.292527, 3.338789, -10.51158, 10.60907),
            (0.5623649, -1.32298, 6.359191, -7.464002, 1.827082),
            (1.13383, -2.811967, 7.431302, -1.969342, -11.74423),
        ),
    ),
    _component(
        "GGA_XC_B97_D",
        170,
        PowerSeries(
            (1.08662, -0.52127, 3.25429), (0.2234, -1.56208, 1.94293), (0.69041, 6.3027, -14.9712)
        ),
    ),
    _component(
        "GGA_XC_HCTH_93",
        161,
        PowerSeries(
            (1.0932, -0.744056, 5.5992, -6.78549, 4.49357),
            (0.222601, -0.0338622, -0.012517, -0.802496, 1.55396),
            (0.729974, 3.35287, -11.543, 8.08564, -4.47857),
        ),
    ),
    _component(
        "GGA_XC_HCTH_120",
        162,
        PowerSeries(
            (1.09163, -0.747215, 5.07833, -4.10746, 1.17173),
            (0.489508, -0.260699, 0.432917, -1.99247, 2.48531),
            (0.51473, 6.92982, -24.7073, 23.1098, -11.3234),
        ),
    ),
    _component(
        "GGA_XC_HCTH_147",
        163,
        PowerSeries(
            (1.09025, -0.799194, 5.57212, -5.8676, 3.04544),
            (0.562576, 0.0171436, -1.30636, 1.05747, 0.885429),
            (0.542352, 7.01464, -28.3822, 35.0329, -20.4284),
        ),
    ),
    _component(
        "GGA_XC_HCTH_407",
        164,
        PowerSeries(
            (1.08184, -0.518339, 3.42562, -2.62901, 2.28855),
            (1.18777, -2.40292, 5.61741, -9.17923, 6.24798),
            (0.589076, 4.42374, -19.2218, 42.5721, -42.0052),
        ),
    ),
    _component(
        "HYB_GGA_XC_WB97",
        463,
        PowerSeries(
            (1.0, 1.13116, -2.74915, 12.09, -5.71642),
            (1.0, -2.55352, 11.8926, -26.9452, 17.0927),
            (1.0, 3.99051, -17.0066, 1.07292, 8.88211),
            0.4,
        ),
    ),
    _component(
        "HYB_GGA_XC_WB97X",
        464,
        PowerSeries(
            (0.842294, 0.726479, 1.0476, -5.70635, 13.2794),
            (1.0, -4.33879, 18.2308, -31.743, 17.2901),
            (1.0, 2.37031, -11.3995, 6.58405, -3.78132),
            0.3,
        ),
    ),
    _component(
        "HYB_GGA_XC_WB97X_D",
        471,
        PowerSeries(
            (0.777964, 0.66116, 0.574541, -5.25671, 11.6386),
            (1.0, -6.90539, 31.3343, -51.0533, 26.4423),
            (1.0, 1.79413, -12.0477, 14.0847, -8.50809),
            0.2,
        ),
    ),
    _component(
        "HYB_GGA_XC_WB97X_D3",
        399,
        PowerSeries(
            (0.804272, 0.6989, 0.50894, -3.744903, 10.06079),
            (1.0, -4.868902, 21.295726, -36.020866, 19.177018),
            (1.0, 2.433266, -15.446008, 17.64439, -8.879494),
            0.25,
        ),
    ),
)
