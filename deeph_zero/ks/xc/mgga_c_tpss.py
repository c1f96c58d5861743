"""Tao-Perdew-Staroverov-Scuseria correlation: libxc MGGA_C_TPSS (231).

References:
    J. Tao, J. P. Perdew, V. N. Staroverov, G. E. Scuseria, Phys. Rev. Lett. 91, 146401 (2003),
    eqs. (11)-(14), doi:10.1103/PhysRevLett.91.146401; long form: J. P. Perdew, J. Tao,
    V. N. Staroverov, G. E. Scuseria, J. Chem. Phys. 120, 6898 (2004), eqs. (24)-(34),
    doi:10.1063/1.1665298.
"""

import math

import torch
from torch import Tensor

from deeph_zero.ks.xc.component import Component
from deeph_zero.ks.xc.density_variables import RS_FACTOR, ZETA_THRESHOLD, ClosedShell, Polarised
from deeph_zero.ks.xc.gga_c_pbe import (
    T2_FACTOR,
    gradient_correction,
    pbe_correlation_polarised,
    pbe_correlation_unpolarised,
)
from deeph_zero.ks.xc.lda_c_pw import PW92_MOD

D = 2.8
C0 = (0.53, 0.87, 0.50, 2.26)
_FERRO_PHI = (2 ** (2 / 3) + ZETA_THRESHOLD ** (2 / 3)) / 2
_FERRO_EDGE = 1e-12
"""libxc replaces C(zeta, xi) by C(1, 0) where 1 - |zeta| is below this."""


def _ferro_correlation(rho: Tensor, rho13: Tensor, sigma: Tensor) -> Tensor:
    """PBE correlation per electron of one fully polarised spin channel, [ngrids], Eh."""
    rs = RS_FACTOR / rho13
    eps = PW92_MOD.ferro.energy(rs, torch.sqrt(rs))
    return eps + gradient_correction(eps, T2_FACTOR * sigma / (rho * rho * rho13), _FERRO_PHI)


def _larger(x: Tensor, y: Tensor) -> Tensor:
    """Maximum whose derivative is that of one branch, also where the two are equal."""
    return torch.where(x > y, x, y)


def _assemble(rho: Tensor, eps: Tensor, eps_spin: Tensor, c: Tensor | float, z: Tensor) -> Tensor:
    """Eqs. (24), (25) of the long form, energy per volume.

    Args:
        rho: Total density.
        eps: PBE correlation per electron.
        eps_spin: Sum over spins of rho_s / rho times the larger of eps_s and eps.
        c: C(zeta, xi).
        z: tau_W / tau, at most 1.

    Returns:
        Energy per volume, Eh/bohr^3, shape of ``rho``.
    """
    z2 = z * z
    revised = (1 + c * z2) * eps - (1 + c) * z2 * eps_spin
    return rho * revised * (1 + D * revised * z2 * z)


def _weizsaecker_ratio(sigma: Tensor, rho: Tensor, tau: Tensor) -> Tensor:
    """tau_W / tau, at most 1.

    With one orbital it is 1 everywhere, and rounding decides whether it is constant; the operations
    and their order are libxc's.
    """
    z = sigma * (1 / rho) * (1 / tau) / 8
    return torch.where(z > 1, 1.0, z)


def _tpss_closed_shell(d: ClosedShell) -> Tensor:
    assert d.sigma is not None
    assert d.tau is not None
    eps = pbe_correlation_unpolarised(d)
    channel = _ferro_correlation(d.rho / 2, d.rho13 / 2 ** (1 / 3), d.sigma / 4)
    channel = torch.where(d.rho > 2 * d.threshold, _larger(channel, eps), eps)
    return _assemble(d.rho, eps, channel, C0[0], _weizsaecker_ratio(d.sigma, d.rho, d.tau))


def _polarisation_coefficient(d: Polarised) -> Tensor:
    """C(zeta, xi) of eqs. (33), (34) of the long form, with libxc's ferromagnetic limit."""
    za, zb = d.zeta_a, d.zeta_b
    assert d.sigma_aa is not None
    assert d.sigma_ab is not None
    assert d.sigma_bb is not None
    edge = torch.minimum(za, zb) <= _FERRO_EDGE
    # (rho |grad zeta|)^2, and the inner powers evaluated away from the edge
    grad_zeta2 = zb * zb * d.sigma_aa + za * za * d.sigma_bb - 2 * za * zb * d.sigma_ab
    xi2 = grad_zeta2 / (4 * (3 * math.pi**2) ** (2 / 3) * (d.rho * d.rho13) ** 2)
    powers = torch.where(edge, 1.0, d.zeta13_a) ** -4 + torch.where(edge, 1.0, d.zeta13_b) ** -4
    z2 = d.zeta * d.zeta
    series = C0[0] + z2 * (C0[1] + z2 * (C0[2] + z2 * C0[3]))
    inside = series / (1 + 0.5 * torch.where(edge, 0.0, xi2) * powers) ** 4
    return torch.where(edge, sum(C0), inside)


def _tpss_polarised(d: Polarised) -> Tensor:
    assert d.sigma_aa is not None
    assert d.sigma_bb is not None
    eps = pbe_correlation_polarised(d)
    alpha = _ferro_correlation(d.rho_a, d.rho13_a, d.sigma_aa)
    beta = _ferro_correlation(d.rho_b, d.rho13_b, d.sigma_bb)
    alpha = torch.where(d.alive_a, _larger(alpha, eps), eps)
    beta = torch.where(d.alive_b, _larger(beta, eps), eps)
    eps_spin = 0.5 * (d.zeta_a * alpha + d.zeta_b * beta)
    z = _weizsaecker_ratio(d.sigma, d.rho, d.tau)
    return _assemble(d.rho, eps, eps_spin, _polarisation_coefficient(d), z)


COMPONENTS = (
    Component(
        name="MGGA_C_TPSS",
        libxc_id=231,
        kind="MGGA",
        threshold=1e-15,
        closed_shell=_tpss_closed_shell,
        polarised=_tpss_polarised,
    ),
)
