"""Exchange of the PBE hole under the erfc operator: libxc GGA_X_WPBEH (524), for HSE06.

The fit of the hole is a sum of powers of w = omega / k_F up to w^8 that nearly cancel: around
w = 10 (a spin density of 1e-8) eight digits are left, here as in libxc.

References:
    J. Heyd, G. E. Scuseria, M. Ernzerhof, J. Chem. Phys. 118, 8207 (2003), appendix,
    doi:10.1063/1.1564060; M. Ernzerhof, J. P. Perdew, J. Chem. Phys. 109, 3313 (1998),
    doi:10.1063/1.476928; fit of the hole by J. Heyd, G. E. Scuseria, J. Chem. Phys. 120, 7274
    (2004), doi:10.1063/1.1668634; rescaling of large s: T. M. Henderson, A. F. Izmaylov,
    G. Scalmani, G. E. Scuseria, J. Chem. Phys. 131, 044108 (2009), doi:10.1063/1.3185673.
"""

import dataclasses
import math
from functools import cached_property

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component, exchange_component
from deeph_zero.ks.xc.exponential_integral import scaled_e1
from deeph_zero.ks.xc.gga_x_pbe import S2_FACTOR
from deeph_zero.ks.xc.lda_x import SLATER

A, B, C, D, E = 1.0161144, -0.37170836, -0.077215461, 0.57786348, -0.051955731
_SQRT_PI = math.sqrt(math.pi)
_S_MAX = 8.572844
_S_TAYLOR = 0.08
_P_FLOOR = 1e-70
"""Smallest s^2; only densities above 1e11 reach it, and 1 / s^8 stays finite."""
_W_LARGE = 14.0
_X_LARGE = 700.0
_EB = 1.455915450052607
# fit of the hole's Gaussian-like factor, powers 1 to 8 of w
_EA = (
    -1.128223946706117,
    1.452736265762971,
    -1.243162299390327,
    0.971824836115601,
    -0.568861079687373,
    0.246880514820192,
    -0.065032363850763,
    0.008401793031216,
)


@dataclasses.dataclass(frozen=True)
class _Hole:
    """The s-dependent quantities of the hole, as functions of p = s^2."""

    p: Tensor

    @cached_property
    def h(self) -> Tensor:
        """H(s)."""
        p, p2 = self.p, self.p * self.p
        top = 0.00979681 * p + 0.0410834 * p2
        return top / (1 + 0.187440 * p2 + 0.00120824 * p**2.5 + 0.0347188 * p2 * p)

    @cached_property
    def f(self) -> Tensor:
        """F(s)."""
        return 6.4753871 * self.h + 0.47965830

    @cached_property
    def sh(self) -> Tensor:
        """s^2 H."""
        return self.p * self.h

    @cached_property
    def aux1(self) -> Tensor:
        """D + s^2 H."""
        return D + self.sh

    @cached_property
    def eg(self) -> Tensor:
        """E G(s): from the normalisation of the hole, or its series at small s."""
        large = self.p > _S_TAYLOR**2
        q = _Hole(torch.where(large, self.p, 1.0))
        a = q.aux1
        root = torch.sqrt(9 / (4 * A) * q.sh)
        ga = _SQRT_PI * (15 * E + a * (6 * C * (1 + q.f * q.p) + a * (4 * B + 8 * A * a)))
        ga = ga / (16 * a**3.5) - 0.75 * math.pi * math.sqrt(A) * torch.special.erfcx(root)
        gb = 15 * _SQRT_PI / 16 * q.p / a**3.5
        p = self.p
        series = -0.02628417880 + p * (-0.07117647788 + p * 0.08534541323)
        return torch.where(large, -(0.75 * math.pi + ga) / gb, series)


def _scaled_gradient(p: Tensor) -> Tensor:
    """s^2 after the rescaling that keeps s below 8.57."""
    p = torch.where(p > _P_FLOOR, p, _P_FLOOR)
    middle, end = p >= 1, p > 225
    s = torch.sqrt(torch.where(middle & ~end, p, 1.0))
    s = s - torch.log1p(torch.exp(s - _S_MAX))
    return torch.where(end, _S_MAX**2, torch.where(middle, s * s, p))


def _unscreened_tail(w: Tensor, hole: _Hole) -> Tensor:
    """Terms 2 to 5 of the integral; w = 0 leaves the second."""
    a, p, eg = hole.aux1, hole.p, hole.eg
    spf = 1 + p * hole.f
    aux3 = a + w * w
    root = aux3 * aux3 * torch.sqrt(aux3)
    e_sum = E + p * eg
    term2 = (a * (a * B + C * spf) + 2 * e_sum) / (2 * a * a * a)
    term3 = aux3 * (4 * aux3 * B + 6 * C * spf) + 15 * e_sum
    term4 = aux3 * C * spf + 5 * e_sum
    w2 = w * w
    sum345 = term3 / (8 * a) + w2 * (term4 / (2 * a * a) + w2 * e_sum / (a * a * a))
    return term2 - w * sum345 / root


def _large_w(w: Tensor, hole: _Hole) -> Tensor:
    """First term with one Gaussian, for w > 14."""
    aux4 = hole.sh + 2 * w * w
    x = 9 / (4 * A) * aux4
    near = torch.where(x < _X_LARGE, x, 1.0)
    far = torch.where(x < _X_LARGE, _X_LARGE, x)
    rational = (far * (far + 4.03640) + 1.15198) / (far * (far * (far + 5.03627) + 4.19160))
    e1 = torch.where(x < _X_LARGE, scaled_e1(near)[0], rational)
    return -0.5 * A * (torch.log((D + aux4) / aux4) - e1)


def _fitted(w: Tensor, hole: _Hole) -> Tensor:
    """First term from the eight-term fit, for w <= 14."""
    ea1, ea2, ea3, ea4, ea5, ea6, ea7, ea8 = _EA
    r, w2 = math.sqrt(A), w * w
    y, z = hole.sh + _EB * w2, D + hole.sh + _EB * w2
    x = 9 / (4 * A) * y
    c = 9 / (4 * A) * w2
    e1, e1_plus_log = scaled_e1(x)
    np1 = -1.5 * r * w * (ea1 - c * (ea3 - c * (ea5 - c * ea7)))
    np2 = A * c * (ea2 - c * (ea4 - c * (ea6 - c * ea8)))
    t1 = 0.5 * (np1 * math.pi * torch.special.erfcx(torch.sqrt(x)) - np2 * e1)
    logs = 0.5 * A * (e1_plus_log - math.log(9 / (4 * A)) - torch.log(z))
    zr, yr = torch.sqrt(z), torch.sqrt(y)
    f2 = 0.5 * ea1 * _SQRT_PI * A / zr
    f3 = 0.5 * ea2 * A / z
    f4 = ea3 * _SQRT_PI * (-9 / (8 * yr) + 0.25 * A / (z * zr))
    f5 = ea4 / 128 * (-144 / y + 64 * A / (z * z))
    z52, z72, y32, y52 = z * z * zr, z * z * z * zr, y * yr, y * y * yr
    f6 = 3 * _SQRT_PI * (3 * z52 * (9 * y - 2 * A) + 4 * y32 * A * A)
    f6 = ea5 * f6 / (32 * z52 * y32 * A)
    f7 = ea6 / 32 * (32 * A / (z * z * z) + (-36 + 81 / A * hole.sh) / (y * y))
    f8 = -40 * y52 * A**3 + 9 * z72 * (27 * y * y - 6 * y * A + 4 * A * A)
    f8 = ea7 * (-3 * _SQRT_PI) * f8 / (128 * z72 * y52 * A * A)
    z4, y3 = z * z * z * z, y * y * y
    f9 = 384 * y3 * A**3 + z4 * (-729 * y * y + 324 * y * A - 288 * A * A)
    f9 = (324 * ea6 * _EB * z4 * y * A + ea8 * f9) / (128 * z4 * y3 * A * A)
    even = w2 * (f3 + w2 * (f5 + w2 * (f7 + w2 * f9)))
    return t1 + logs + even + w * (f2 + w2 * (f4 + w2 * (f6 + w2 * f8)))


def _full_range(hole: _Hole) -> Tensor:
    """First term at w = 0."""
    x = 9 / (4 * A) * hole.sh
    return 0.5 * A * (scaled_e1(x)[1] - math.log(9 / (4 * A)) - torch.log(hole.aux1))


def screened_pbe(omega: float) -> Component:
    """The functional for one range-separation parameter.

    Args:
        omega: Range-separation parameter, 1/bohr; 0 is exchange of the full operator.

    Returns:
        A component; libxc's own default is omega = 0.
    """

    def exchange(
        rho: Tensor,
        rho13: Tensor,
        sigma: Tensor | None,
        tau: Tensor | None = None,  # noqa: ARG001 - one signature for all exchange functionals
    ) -> Tensor:
        assert sigma is not None
        rho43 = rho * rho13
        hole = _Hole(_scaled_gradient(S2_FACTOR * sigma / (rho43 * rho43)))
        w = omega / (3 * math.pi**2) ** (1 / 3) / rho13
        if omega == 0:
            first = _full_range(hole)
        else:
            large = w > _W_LARGE
            far = _large_w(torch.where(large, w, _W_LARGE), hole)
            first = torch.where(large, far, _fitted(torch.where(large, 1.0, w), hole))
        return SLATER * rho43 * (-8 / 9) * (first + _unscreened_tail(w, hole))

    return exchange_component("GGA_X_WPBEH", 524, "GGA", exchange, threshold=1e-14)


COMPONENTS = (screened_pbe(0.0),)
VARIANTS = {f"GGA_X_WPBEH({omega})": screened_pbe(omega) for omega in (0.11,)}
"""Other parameters, as composite functionals use them; the name in brackets is ours."""
