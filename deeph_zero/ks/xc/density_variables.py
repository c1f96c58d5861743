"""Sanitised density variables at the grid points, with the powers that functionals share.

libxc replaces out-of-range inputs before it evaluates a formula and differentiates the formula at
the replaced values. The same is done here, outside the autograd graph, so that the variables are
leaves: floors on the spin densities, on sigma and tau; sigma <= 8 rho tau (a positive Fermi-hole
curvature); sigma_ab between -+(sigma_aa + sigma_bb) / 2. Ceilings, far beyond anything physical,
keep every formula and its third derivative finite.
"""

import dataclasses
from functools import cached_property

import torch
from torch import Tensor

from deeph_zero.ks.protocol import XCKind

ZETA_THRESHOLD = torch.finfo(torch.float64).eps
"""libxc's smallest 1 +- zeta; below it the spin polarisation is constant (no derivative)."""
TAU_FLOOR = 1e-20
RHO_CEILING = 1e15
CEILING = 1e28
"""Largest sigma / rho^3 and tau / rho^2: |grad rho| / rho = 3e6 where rho = 1e-15."""

_MINORITY = 0.1
"""1 +- zeta below which a spin channel's tau is assembled with libxc's rounding."""

RS_FACTOR = (3 / (4 * torch.pi)) ** (1 / 3)


def _bounded_cube_root(x: Tensor) -> Tensor:
    """x^(1/3), constant (no derivative) below ``ZETA_THRESHOLD``."""
    return torch.where(x <= ZETA_THRESHOLD, ZETA_THRESHOLD, x) ** (1 / 3)


def _minority_unit(zeta: Tensor, zeta13: Tensor, rho13: Tensor, rho13_s: Tensor) -> Tensor:
    """((1 +- zeta) rho / (2 rho_s))^(1/3): 1 but for the rounding of a small 1 +- zeta."""
    return torch.where(zeta < _MINORITY, zeta13 * rho13 / (2 ** (1 / 3) * rho13_s), 1.0)


@dataclasses.dataclass(frozen=True)
class ClosedShell:
    """Total density variables of a closed shell, each [ngrids], atomic units.

    Attributes:
        alive: Points where the density is not below libxc's threshold.
        threshold: That threshold.
        rho: Electron density.
        sigma: Squared gradient of ``rho`` (None for an LDA).
        tau: 1/2 sum |grad psi|^2 over all electrons (None below a meta-GGA).
    """

    alive: Tensor
    threshold: float
    rho: Tensor
    sigma: Tensor | None = None
    tau: Tensor | None = None

    @cached_property
    def rho13(self) -> Tensor:
        """Cube root of the density."""
        return self.rho ** (1 / 3)

    @cached_property
    def rho43(self) -> Tensor:
        """Density to the power 4/3."""
        return self.rho * self.rho13

    @cached_property
    def inverse43(self) -> Tensor:
        """Density to the power -4/3."""
        return self.rho43.reciprocal()

    @cached_property
    def rs(self) -> Tensor:
        """Wigner-Seitz radius, bohr."""
        return RS_FACTOR / self.rho13

    @cached_property
    def rs_sqrt(self) -> Tensor:
        """Square root of the Wigner-Seitz radius."""
        return torch.sqrt(self.rs)


@dataclasses.dataclass(frozen=True)
class Polarised:
    """Density variables of the two spins, each [ngrids], atomic units.

    Attributes:
        alive: Points where the total density is not below libxc's threshold.
        threshold: That threshold.
        rho_a: Alpha density.
        rho_b: Beta density.
        sigma_aa: Squared gradient of ``rho_a`` (None for an LDA).
        sigma_ab: Product of the two gradients.
        sigma_bb: Squared gradient of ``rho_b``.
        tau_a: 1/2 sum |grad psi|^2 of the alpha orbitals (None below a meta-GGA).
        tau_b: Kinetic energy density of the beta orbitals.
    """

    alive: Tensor
    threshold: float
    rho_a: Tensor
    rho_b: Tensor
    sigma_aa: Tensor | None = None
    sigma_ab: Tensor | None = None
    sigma_bb: Tensor | None = None
    tau_a: Tensor | None = None
    tau_b: Tensor | None = None

    @cached_property
    def rho(self) -> Tensor:
        """Total density."""
        return self.rho_a + self.rho_b

    @cached_property
    def rho13(self) -> Tensor:
        """Cube root of the total density."""
        return self.rho ** (1 / 3)

    @cached_property
    def rho13_a(self) -> Tensor:
        """Cube root of the alpha density."""
        return self.rho_a ** (1 / 3)

    @cached_property
    def rho13_b(self) -> Tensor:
        """Cube root of the beta density."""
        return self.rho_b ** (1 / 3)

    @cached_property
    def rs(self) -> Tensor:
        """Wigner-Seitz radius, bohr."""
        return RS_FACTOR / self.rho13

    @cached_property
    def rs_sqrt(self) -> Tensor:
        """Square root of the Wigner-Seitz radius."""
        return torch.sqrt(self.rs)

    @cached_property
    def zeta(self) -> Tensor:
        """Spin polarisation (rho_a - rho_b) / rho, rounded as libxc rounds it.

        Potentials of an empty spin channel contain (1 - zeta)^(-1/3) with 1 - zeta of the size of
        the rounding error; only the same operations give the same Fock matrix there.
        """
        return (self.rho_a - self.rho_b) * (1 / self.rho)

    @cached_property
    def zeta_a(self) -> Tensor:
        """1 + zeta."""
        return 1 + self.zeta

    @cached_property
    def zeta_b(self) -> Tensor:
        """1 - zeta."""
        return 1 - self.zeta

    @cached_property
    def zeta13_a(self) -> Tensor:
        """(1 + zeta)^(1/3), with libxc's constant continuation near -1."""
        return _bounded_cube_root(self.zeta_a)

    @cached_property
    def zeta13_b(self) -> Tensor:
        """(1 - zeta)^(1/3), with libxc's constant continuation near +1."""
        return _bounded_cube_root(self.zeta_b)

    @cached_property
    def f_zeta(self) -> Tensor:
        """Spin interpolation [(1+z)^(4/3) + (1-z)^(4/3) - 2] / (2^(4/3) - 2)."""
        return (self.zeta13_a**4 + self.zeta13_b**4 - 2) / (2 ** (4 / 3) - 2)

    @cached_property
    def phi(self) -> Tensor:
        """Spin scaling [(1+z)^(2/3) + (1-z)^(2/3)] / 2."""
        return (self.zeta13_a * self.zeta13_a + self.zeta13_b * self.zeta13_b) / 2

    @cached_property
    def moving_a(self) -> Tensor:
        """(1 + zeta)^(-1/3), or 0 where the cube root is constant."""
        return torch.where(self.zeta_a > ZETA_THRESHOLD, self.zeta13_a.reciprocal(), 0.0)

    @cached_property
    def moving_b(self) -> Tensor:
        """(1 - zeta)^(-1/3), or 0 where the cube root is constant."""
        return torch.where(self.zeta_b > ZETA_THRESHOLD, self.zeta13_b.reciprocal(), 0.0)

    @cached_property
    def f_zeta_slope(self) -> Tensor:
        """d f_zeta / d zeta."""
        a = self.zeta13_a * self.zeta13_a * self.moving_a
        b = self.zeta13_b * self.zeta13_b * self.moving_b
        return (a - b).mul_(4 / 3 / (2 ** (4 / 3) - 2))

    @cached_property
    def phi_slope(self) -> Tensor:
        """d phi / d zeta."""
        return (self.moving_a - self.moving_b).mul_(1 / 3)

    def potentials(self, eps: Tensor, by_rs: Tensor, by_zeta: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of rho eps(rs, zeta) by rho_a and rho_b.

        Args:
            eps: Energy per electron, [ngrids].
            by_rs: Its derivative by ln rs.
            by_zeta: Its derivative by zeta.

        Returns:
            Two tensors [ngrids].
        """
        common = eps - by_rs / 3
        return common + by_zeta * self.zeta_b, common - by_zeta * self.zeta_a

    @cached_property
    def d_s(self) -> Tensor:
        """Spin scaling of the uniform-gas kinetic energy [(1+z)^(5/3) + (1-z)^(5/3)] / 2."""
        return (self.zeta13_a**5 + self.zeta13_b**5) / 2

    def channel(self, spin: int) -> ClosedShell:
        """The closed shell of twice one spin density, alive where that spin is not screened out."""
        rho, sigma, tau, alive = (
            (self.rho_b, self.sigma_bb, self.tau_b, self.alive_b)
            if spin
            else (self.rho_a, self.sigma_aa, self.tau_a, self.alive_a)
        )
        return ClosedShell(
            alive,
            self.threshold,
            2 * rho,
            None if sigma is None else 4 * sigma,
            None if tau is None else 2 * tau,
        )

    @cached_property
    def sigma(self) -> Tensor:
        """Squared gradient of the total density."""
        assert self.sigma_aa is not None
        assert self.sigma_ab is not None
        assert self.sigma_bb is not None
        return self.sigma_aa + 2 * self.sigma_ab + self.sigma_bb

    @cached_property
    def tau(self) -> Tensor:
        """tau_a + tau_b, the minority's share from reduced variables as in libxc.

        The potential of a nearly empty channel consists of that rounding.
        """
        assert self.tau_a is not None
        assert self.tau_b is not None
        unit_a = _minority_unit(self.zeta_a, self.zeta13_a, self.rho13, self.rho13_a)
        unit_b = _minority_unit(self.zeta_b, self.zeta13_b, self.rho13, self.rho13_b)
        return self.tau_a * unit_a**5 + self.tau_b * unit_b**5

    @cached_property
    def alive_a(self) -> Tensor:
        """Points where the alpha channel is not screened out."""
        return (self.rho_a > self.threshold) & (self.zeta_a > ZETA_THRESHOLD)

    @cached_property
    def alive_b(self) -> Tensor:
        """Points where the beta channel is not screened out."""
        return (self.rho_b > self.threshold) & (self.zeta_b > ZETA_THRESHOLD)


def _channel(
    rho: Tensor, sigma: Tensor | None, tau: Tensor | None, threshold: float
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """rho, sigma, tau of one spin (or of the closed shell) inside libxc's bounds."""
    rho = rho.clamp(threshold, RHO_CEILING)
    if sigma is None:
        return rho, None, None
    ceiling = CEILING * rho * rho
    # libxc's sigma threshold is the density threshold to the power 4/3, and it enters squared
    sigma = torch.minimum(sigma.clamp(min=threshold ** (8 / 3)), ceiling * rho)
    if tau is not None:
        tau = torch.minimum(tau.clamp(min=TAU_FLOOR), ceiling)
        sigma = torch.minimum(sigma, 8 * rho * tau)
    return rho, sigma, tau


def sanitise_closed_shell(
    kind: XCKind, variables: tuple[Tensor, ...], threshold: float
) -> tuple[Tensor, ...]:
    """Bring (rho, sigma, tau) of a closed shell inside the bounds.

    Args:
        kind: Decides how many of the three are used.
        variables: Raw rho, sigma, tau (as many as there are), each [ngrids], atomic units.
        threshold: Density threshold of the functional.

    Returns:
        The 1 (LDA), 2 (GGA) or 3 (meta-GGA) variables.
    """
    sigma = None if kind == "LDA" else variables[1]
    tau = variables[2] if kind == "MGGA" else None
    return tuple(x for x in _channel(variables[0], sigma, tau, threshold) if x is not None)


def sanitise_polarised(
    kind: XCKind, variables: tuple[Tensor, ...], threshold: float
) -> tuple[Tensor, ...]:
    """Bring (rho_a, rho_b, sigma_aa, sigma_ab, sigma_bb, tau_a, tau_b) inside the bounds.

    Args:
        kind: Decides how many of the seven are used.
        variables: Raw values (as many as there are), each [ngrids], atomic units.
        threshold: Density threshold of the functional.

    Returns:
        The 2 (LDA), 5 (GGA) or 7 (meta-GGA) variables.
    """
    if kind == "LDA":
        return tuple(x.clamp(threshold, RHO_CEILING) for x in variables[:2])
    taus = variables[5:7] if kind == "MGGA" else (None, None)
    rho_a, sigma_aa, tau_a = _channel(variables[0], variables[2], taus[0], threshold)
    rho_b, sigma_bb, tau_b = _channel(variables[1], variables[4], taus[1], threshold)
    assert sigma_aa is not None
    assert sigma_bb is not None
    mean = 0.5 * (sigma_aa + sigma_bb)
    # a hair above -mean: sigma_aa + 2 sigma_ab + sigma_bb must not round to below zero
    sigma_ab = torch.maximum(torch.minimum(variables[3], mean), (8 * ZETA_THRESHOLD - 1) * mean)
    out = (rho_a, rho_b, sigma_aa, sigma_ab, sigma_bb, tau_a, tau_b)
    return tuple(x for x in out if x is not None)
