"""What one functional is: its libxc identity and its energy density for both spin cases."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from deeph_zero.ks.protocol import XCKind
from deeph_zero.ks.xc.density_variables import ClosedShell, Polarised

SpinSummedExchange = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
"""(rho, rho^(1/3), sigma, tau) of a closed shell -> exchange energy per volume."""
FirstDerivatives = Callable[[ClosedShell], tuple[Tensor, ...]]
"""Closed shell -> energy per volume and its derivatives by rho (sigma, tau), without a graph."""
PolarisedDerivatives = Callable[[Polarised], tuple[Tensor, ...]]
"""Spin densities -> energy per volume and its derivatives by (rho_a, rho_b),
(sigma_aa, sigma_ab, sigma_bb) and (tau_a, tau_b), without a graph."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
    """A functional that libxc also has under ``name``.

    Attributes:
        name: libxc name, upper case.
        libxc_id: libxc number.
        kind: "LDA", "GGA" or "MGGA".
        threshold: libxc's density threshold: below it the functional is zero.
        closed_shell: Energy per volume from total densities, [ngrids], Eh / bohr^3.
        polarised: Energy per volume from spin densities, [ngrids], Eh / bohr^3.
        closed_shell_first: ``closed_shell`` with first derivatives by hand, or None.
            Every Fock build needs these alone, and automatic ones cost two to five times as much.
        polarised_first: ``polarised`` with first derivatives by hand, or None.
    """

    name: str
    libxc_id: int
    kind: XCKind
    threshold: float
    closed_shell: Callable[[ClosedShell], Tensor]
    polarised: Callable[[Polarised], Tensor]
    closed_shell_first: FirstDerivatives | None = None
    polarised_first: PolarisedDerivatives | None = None


def exchange_component(
    name: str,
    libxc_id: int,
    kind: XCKind,
    exchange: SpinSummedExchange,
    *,
    threshold: float = 1e-15,
    first: FirstDerivatives | None = None,
) -> Component:
    """An exchange functional from its closed-shell form by exact spin scaling.

    E_x[rho_a, rho_b] = (E_x[2 rho_a] + E_x[2 rho_b]) / 2; sigma scales with 4 and tau with 2. As
    in libxc a spin channel at or below the density threshold contributes nothing.

    Args:
        name: libxc name.
        libxc_id: libxc number.
        kind: "LDA", "GGA" or "MGGA".
        exchange: Energy per volume of a closed shell from (rho, rho^(1/3), sigma, tau).
        threshold: libxc's density threshold.
        first: Energy and first derivatives of a closed shell by hand, or None.

    Returns:
        The component.

    References:
        G. L. Oliver, J. P. Perdew, Phys. Rev. A 20, 397 (1979), doi:10.1103/PhysRevA.20.397.
    """

    def channel(
        rho: Tensor, rho13: Tensor, sigma: Tensor | None, tau: Tensor | None, alive: Tensor
    ) -> Tensor:
        value = exchange(
            2 * rho,
            2 ** (1 / 3) * rho13,
            None if sigma is None else 4 * sigma,
            None if tau is None else 2 * tau,
        )
        return torch.where(alive, 0.5 * value, 0.0)

    def closed_shell(d: ClosedShell) -> Tensor:
        value = exchange(d.rho, d.rho13, d.sigma, d.tau)
        return torch.where(d.rho > 2 * d.threshold, value, 0.0)

    def closed_shell_first(d: ClosedShell) -> tuple[Tensor, ...]:
        assert first is not None
        alive = d.rho > 2 * d.threshold
        return tuple(torch.where(alive, x, 0.0) for x in first(d))

    def polarised(d: Polarised) -> Tensor:
        alpha = channel(d.rho_a, d.rho13_a, d.sigma_aa, d.tau_a, d.alive_a)
        return alpha + channel(d.rho_b, d.rho13_b, d.sigma_bb, d.tau_b, d.alive_b)

    return Component(
        name=name,
        libxc_id=libxc_id,
        kind=kind,
        threshold=threshold,
        closed_shell=closed_shell,
        polarised=polarised,
        closed_shell_first=None if first is None else closed_shell_first,
        polarised_first=None if first is None else _both_spins(first),
    )


def _spin_scaled(first: FirstDerivatives, doubled: ClosedShell) -> tuple[Tensor, ...]:
    """Half the energy of twice one spin density, and derivatives by that spin's variables."""
    factors = (0.5, 1.0, 2.0, 1.0)
    return tuple(
        torch.where(doubled.alive, x if c == 1 else x * c, 0.0)
        for x, c in zip(first(doubled), factors, strict=False)
    )


def _both_spins(first: FirstDerivatives) -> PolarisedDerivatives:
    """The sum over spins, with a zero for sigma_ab."""

    def polarised_first(d: Polarised) -> tuple[Tensor, ...]:
        alpha, beta = (_spin_scaled(first, d.channel(spin)) for spin in range(2))
        out = [alpha[0] + beta[0], alpha[1], beta[1]]
        if len(alpha) > 2:
            out += [alpha[2], torch.zeros_like(alpha[2]), beta[2]]
        return (*out, *alpha[3:], *beta[3:])

    return polarised_first
