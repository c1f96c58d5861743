"""Vosko-Wilk-Nusair correlation: libxc LDA_C_VWN (7, "VWN5") and LDA_C_VWN_RPA (8).

The constants are the paper's, halved from rydberg to hartree. LDA_C_VWN interpolates in the spin
polarisation through the spin stiffness; LDA_C_VWN_RPA fits the random-phase approximation and
interpolates between its two ends only.

References:
    S. H. Vosko, L. Wilk, M. Nusair, Can. J. Phys. 58, 1200 (1980), eqs. (4.4), (2.4), (3.2),
    doi:10.1139/p80-159.
"""

import dataclasses
import math

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component, FirstDerivatives
from deeph_zero.ks.xc.density_variables import ClosedShell, Polarised
from deeph_zero.ks.xc.lda_c_pw import interpolated


@dataclasses.dataclass(frozen=True)
class PadeFit:
    """Constants of eq. (4.4): amplitude, zero and quadratic x^2 + b x + c, x = sqrt(rs)."""

    a: float
    x0: float
    b: float
    c: float

    def energy(self, x: Tensor) -> Tensor:
        """Eq. (4.4) at x = sqrt(rs), Eh per electron."""
        a, x0, b, c = self.a, self.x0, self.b, self.c
        q, ratio, slope = self._shape()
        log_quadratic = torch.log(x * (x + b) + c)
        return a * (
            2 * torch.log(x)
            + (ratio - 1) * log_quadratic
            - 2 * ratio * torch.log(x - x0)
            + slope * torch.atan(q / (2 * x + b))
        )

    def energy_and_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The energy and x d/dx of it, Eh per electron, without a graph."""
        a, x0, b, c = self.a, self.x0, self.b, self.c
        q, ratio, slope = self._shape()
        twice = 2 * x + b
        inverse = (x * (x + b)).add_(c).reciprocal_()
        shifted = x - x0
        fraction = x / shifted
        log = torch.log((x * x).mul_(inverse))
        shifted = shifted.mul_(shifted).mul_(inverse).log_()
        energy = log.sub_(shifted, alpha=ratio).add_(torch.atan(q / twice), alpha=slope).mul_(a)
        # d atan(q / (2 x + b)) / dx = -q / (2 (x^2 + b x + c))
        rational = twice.mul_(ratio - 1).sub_(slope * q / 2).mul_(inverse).mul_(x)
        return energy, rational.sub_(fraction, alpha=2 * ratio).add_(2).mul_(a)

    def _shape(self) -> tuple[float, float, float]:
        """Q, b x0 / X(x0) and the coefficient of the arctangent."""
        q = math.sqrt(4 * self.c - self.b * self.b)
        ratio = self.b * self.x0 / (self.x0 * self.x0 + self.b * self.x0 + self.c)
        return q, ratio, 2 * self.b / q - ratio * 2 * (2 * self.x0 + self.b) / q


PARAMAGNETIC = PadeFit(0.0310907, -0.10498, 3.72744, 12.9352)
FERROMAGNETIC = PadeFit(0.01554535, -0.32500, 7.06042, 18.0578)
STIFFNESS = PadeFit(-1 / (6 * math.pi**2), -0.0047584, 1.13107, 13.0045)
RPA_PARAMAGNETIC = PadeFit(0.0310907, -0.409286, 13.0720, 42.7198)
RPA_FERROMAGNETIC = PadeFit(0.01554535, -0.743294, 20.1231, 101.578)

F_ZETA_SECOND = 4 / (9 * (2 ** (1 / 3) - 1))
"""Second derivative of the spin interpolation at zeta = 0."""


def _vwn_closed_shell(d: ClosedShell) -> Tensor:
    return d.rho * PARAMAGNETIC.energy(d.rs_sqrt)


def _vwn_polarised(d: Polarised) -> Tensor:
    para = PARAMAGNETIC.energy(d.rs_sqrt)
    ferro = FERROMAGNETIC.energy(d.rs_sqrt)
    stiffness = STIFFNESS.energy(d.rs_sqrt) / F_ZETA_SECOND
    zeta4 = d.zeta**4
    return d.rho * (para + d.f_zeta * (stiffness + zeta4 * (ferro - para - stiffness)))


def _rpa_closed_shell(d: ClosedShell) -> Tensor:
    return d.rho * RPA_PARAMAGNETIC.energy(d.rs_sqrt)


def _rpa_polarised(d: Polarised) -> Tensor:
    para = RPA_PARAMAGNETIC.energy(d.rs_sqrt)
    return d.rho * (para + d.f_zeta * (RPA_FERROMAGNETIC.energy(d.rs_sqrt) - para))


def _vwn_polarised_first(d: Polarised) -> tuple[Tensor, Tensor, Tensor]:
    def both(fit: PadeFit, factor: float) -> tuple[Tensor, Tensor]:
        eps, slope = fit.energy_and_slope(d.rs_sqrt)
        return eps.mul_(factor), slope.mul_(0.5 * factor)  # by ln rs instead of ln x

    ends = both(PARAMAGNETIC, 1.0), both(FERROMAGNETIC, 1.0)
    eps, by_rs, by_zeta = interpolated(d, *ends, both(STIFFNESS, 1 / F_ZETA_SECOND))
    return d.rho * eps, *d.potentials(eps, by_rs, by_zeta)


def _rpa_polarised_first(d: Polarised) -> tuple[Tensor, Tensor, Tensor]:
    para, para_slope = RPA_PARAMAGNETIC.energy_and_slope(d.rs_sqrt)
    ferro, ferro_slope = RPA_FERROMAGNETIC.energy_and_slope(d.rs_sqrt)
    eps = para + d.f_zeta * (ferro - para)
    by_rs = 0.5 * (para_slope + d.f_zeta * (ferro_slope - para_slope))
    return d.rho * eps, *d.potentials(eps, by_rs, d.f_zeta_slope * (ferro - para))


def _first(fit: PadeFit) -> FirstDerivatives:
    def first(d: ClosedShell) -> tuple[Tensor, Tensor]:
        eps, slope = fit.energy_and_slope(d.rs_sqrt)
        return d.rho * eps, eps.sub_(slope, alpha=1 / 6)

    return first


COMPONENTS = (
    Component(
        name="LDA_C_VWN",
        libxc_id=7,
        kind="LDA",
        threshold=1e-15,
        closed_shell=_vwn_closed_shell,
        polarised=_vwn_polarised,
        closed_shell_first=_first(PARAMAGNETIC),
        polarised_first=_vwn_polarised_first,
    ),
    Component(
        name="LDA_C_VWN_RPA",
        libxc_id=8,
        kind="LDA",
        threshold=1e-15,
        closed_shell=_rpa_closed_shell,
        polarised=_rpa_polarised,
        closed_shell_first=_first(RPA_PARAMAGNETIC),
        polarised_first=_rpa_polarised_first,
    ),
)
