"""Perdew-Wang 1992 correlation: libxc LDA_C_PW (12) and LDA_C_PW_MOD (13).

LDA_C_PW has the constants as printed; LDA_C_PW_MOD, which PBE and TPSS use, has more digits.

References:
    J. P. Perdew, Y. Wang, Phys. Rev. B 45, 13244 (1992), eqs. (8)-(10) and table I,
    doi:10.1103/PhysRevB.45.13244.
"""

import dataclasses

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density_variables import ClosedShell, Polarised


@dataclasses.dataclass(frozen=True)
class GFunction:
    """Constants of eq. (10) for one of the three interpolated quantities."""

    a: float
    alpha1: float
    beta: tuple[float, float, float, float]

    def energy(self, rs: Tensor, rs_sqrt: Tensor) -> Tensor:
        """G(rs) of eq. (10), Eh per electron (minus the stiffness for the third set)."""
        b1, b2, b3, b4 = self.beta
        series = rs_sqrt * (b1 + b3 * rs) + rs * (b2 + b4 * rs)
        return -2 * self.a * (1 + self.alpha1 * rs) * torch.log1p(0.5 / self.a / series)

    def energy_and_slope(self, rs: Tensor, rs_sqrt: Tensor) -> tuple[Tensor, Tensor]:
        """G(rs) and rs dG/drs, Eh per electron."""
        a, (b1, b2, b3, b4) = self.a, self.beta
        odd, even = rs_sqrt * (b1 + b3 * rs), rs * (b2 + b4 * rs)
        series = odd + even
        # rs d/drs of the series: half of each power of sqrt(rs)
        series_slope = 0.5 * odd + even + (b3 * rs) * rs_sqrt + (b4 * rs) * rs
        log_slope = -series_slope / (series * (1 + 2 * a * series))
        log = torch.log1p(0.5 / a / series)
        prefactor = -2 * a * (1 + self.alpha1 * rs)
        return prefactor * log, prefactor * log_slope + (-2 * a * self.alpha1) * rs * log

    def up_to_curvature(self, rs: Tensor, rs_sqrt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """G(rs), rs dG/drs and rs d/drs of that, Eh per electron, without a graph."""
        a, (b1, b2, b3, b4) = self.a, self.beta
        one, two = b1 * rs_sqrt, b2 * rs
        three, four = (rs * rs_sqrt).mul_(b3), (rs * rs).mul_(b4)
        series = one + two + three + four
        # the i-th term goes with rs^(i / 2)
        first = 0.5 * one + two + 1.5 * three + 2 * four
        second = 0.25 * one + two + 2.25 * three + 4 * four
        inverse = 1 / (series * (1 + 2 * a * series))
        log_first = -first * inverse
        log_second = (log_first * log_first).mul_(4 * a * series + 1).sub_(second.mul_(inverse))
        log = torch.log1p(0.5 / a / series)
        linear = (-2 * a * self.alpha1) * rs
        prefactor = linear - 2 * a
        energy = prefactor * log
        slope = (linear * log).addcmul_(prefactor, log_first)
        curvature = prefactor.mul_(log_second).add_((log + 2 * log_first).mul_(linear))
        return energy, slope, curvature

    def slope(self, rs: Tensor, rs_sqrt: Tensor) -> Tensor:
        """rs dG/drs, Eh per electron."""
        return self.energy_and_slope(rs, rs_sqrt)[1]


@dataclasses.dataclass(frozen=True)
class PerdewWang:
    """The three G functions and f''(0)."""

    para: GFunction
    ferro: GFunction
    stiffness: GFunction
    f_zeta_second: float

    def unpolarised(self, d: ClosedShell) -> Tensor:
        """Correlation energy per electron at zeta = 0, [ngrids], Eh."""
        return self.para.energy(d.rs, d.rs_sqrt)

    def polarised(self, d: Polarised) -> Tensor:
        """Correlation energy per electron, eq. (8), [ngrids], Eh."""
        para = self.para.energy(d.rs, d.rs_sqrt)
        ferro = self.ferro.energy(d.rs, d.rs_sqrt)
        stiffness = -self.stiffness.energy(d.rs, d.rs_sqrt) / self.f_zeta_second
        return para + d.f_zeta * (stiffness + d.zeta**4 * (ferro - para - stiffness))

    def polarised_first(self, d: Polarised) -> tuple[Tensor, Tensor, Tensor]:
        """Correlation energy per electron and its derivatives by ln rs and zeta, without a graph.

        Args:
            d: Spin densities.

        Returns:
            Three tensors [ngrids], Eh.
        """
        para, para_slope = self.para.energy_and_slope(d.rs, d.rs_sqrt)
        ferro, ferro_slope = self.ferro.energy_and_slope(d.rs, d.rs_sqrt)
        stiffness, stiffness_slope = self.stiffness.energy_and_slope(d.rs, d.rs_sqrt)
        factor = -1 / self.f_zeta_second
        stiffness, stiffness_slope = stiffness.mul_(factor), stiffness_slope.mul_(factor)
        return interpolated(
            d, (para, para_slope), (ferro, ferro_slope), (stiffness, stiffness_slope)
        )

    def slope_unpolarised(self, d: ClosedShell) -> Tensor:
        """rs d eps / d rs at zeta = 0, [ngrids], Eh."""
        return self.para.slope(d.rs, d.rs_sqrt)

    def slope_polarised(self, d: Polarised) -> Tensor:
        """rs d eps / d rs at fixed zeta, [ngrids], Eh."""
        para = self.para.slope(d.rs, d.rs_sqrt)
        ferro = self.ferro.slope(d.rs, d.rs_sqrt)
        stiffness = -self.stiffness.slope(d.rs, d.rs_sqrt) / self.f_zeta_second
        return para + d.f_zeta * (stiffness + d.zeta**4 * (ferro - para - stiffness))


def interpolated(
    d: Polarised,
    para: tuple[Tensor, Tensor],
    ferro: tuple[Tensor, Tensor],
    stiffness: tuple[Tensor, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """para + f (stiffness + zeta^4 (ferro - para - stiffness)) with its derivatives.

    Args:
        d: Spin densities.
        para: Unpolarised energy per electron and its derivative by ln rs, [ngrids] each.
        ferro: Fully polarised energy per electron and its derivative.
        stiffness: Spin stiffness over f''(0), and its derivative.

    Returns:
        Energy per electron and its derivatives by ln rs and zeta, without a graph.
    """
    zeta3 = d.zeta * d.zeta * d.zeta
    zeta4 = zeta3 * d.zeta
    rest, rest_slope = (f - p - s for f, p, s in zip(ferro, para, stiffness, strict=True))
    bracket = stiffness[0] + zeta4 * rest
    eps = para[0] + d.f_zeta * bracket
    by_rs = para[1] + d.f_zeta * (stiffness[1] + zeta4 * rest_slope)
    return eps, by_rs, d.f_zeta_slope * bracket + 4 * zeta3 * d.f_zeta * rest


_BETA_PARA = (7.5957, 3.5876, 1.6382, 0.49294)
_BETA_FERRO = (14.1189, 6.1977, 3.3662, 0.62517)
_BETA_STIFFNESS = (10.357, 3.6231, 0.88026, 0.49671)

PW92 = PerdewWang(
    GFunction(0.031091, 0.21370, _BETA_PARA),
    GFunction(0.015545, 0.20548, _BETA_FERRO),
    GFunction(0.016887, 0.11125, _BETA_STIFFNESS),
    1.709921,
)
PW92_MOD = PerdewWang(
    GFunction(0.0310907, 0.21370, _BETA_PARA),
    GFunction(0.01554535, 0.20548, _BETA_FERRO),
    GFunction(0.0168869, 0.11125, _BETA_STIFFNESS),
    4 / (9 * (2 ** (1 / 3) - 1)),
)


def _component(name: str, libxc_id: int, fit: PerdewWang) -> Component:
    def first(d: ClosedShell) -> tuple[Tensor, Tensor]:
        eps, slope = fit.para.energy_and_slope(d.rs, d.rs_sqrt)
        return d.rho * eps, eps - slope / 3

    def polarised_first(d: Polarised) -> tuple[Tensor, Tensor, Tensor]:
        eps, by_rs, by_zeta = fit.polarised_first(d)
        return d.rho * eps, *d.potentials(eps, by_rs, by_zeta)

    return Component(
        name=name,
        libxc_id=libxc_id,
        kind="LDA",
        threshold=1e-15,
        closed_shell=lambda d: d.rho * fit.unpolarised(d),
        polarised=lambda d: d.rho * fit.polarised(d),
        closed_shell_first=first,
        polarised_first=polarised_first,
    )


COMPONENTS = (_component("LDA_C_PW", 12, PW92), _component("LDA_C_PW_MOD", 13, PW92_MOD))
