"""How the self-consistent charges and dipoles of :mod:`.multipoles` follow the atoms.

The condition s = s[P(h + V[K s])] holds wherever the atoms are. With what is left of it at fixed s
as an atom moves, ds = (1 - χ K)⁻¹ ∂(s[P] - s): the implicit function's derivative, no iteration.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks.multipoles import AtomicClouds, Spectrum, inverse_slope, screened

_TIGHT = 1e-10
"""Residual (Eh) at which derivatives are taken."""


class ScreenedChange(NamedTuple):
    """Derivatives of :class:`~deeph_zero.ks.multipoles.Screened` along some directions.

    Attributes:
        fock: d(h + V), Eh/bohr.
        dm: Derivatives of both spins' density matrices in h + V, 1/bohr.
        dm_free: Derivatives of the density matrices in h.
    """

    fock: Float[Tensor, "n nao nao"]
    dm: Float[Tensor, "n 2 nao nao"]
    dm_free: Float[Tensor, "n 2 nao nao"]


class MovingScreened:
    """The screened matrix of one geometry, ready to be differentiated.

    Attributes:
        fock: h + V, Eh.
        dm: Densities of both spins in it.
        dm_free: Density matrices in h.
    """

    def __init__(
        self,
        h: Float[Tensor, "nao nao"],
        x: Float[Tensor, "nao nmo"],
        nelec: tuple[int, int],
        clouds: AtomicClouds,
    ) -> None:
        """Solve, more tightly than a prediction needs.

        Args:
            h: Matrix of the superposed atoms, Eh.
            x: X with Xᵀ S X = 1, square.
            nelec: (n_alpha, n_beta).
            clouds: The molecule's.
        """
        found = screened(h, x, nelec, clouds, _TIGHT)
        self.fock, self.dm, self.dm_free = found.fock, found.dm, found.dm_free
        self._h, self._clouds, self._seen = h, clouds, found.seen
        kernel = clouds.kernel()
        self._weights = kernel @ found.seen
        self._inside = h + clouds.potential(self._weights)
        self._spectra = [Spectrum.of(m, x, nelec) for m in (self._inside, found.fock, h)]
        self._inverse = inverse_slope(self._spectra[0], clouds, kernel)
        self._moments = found.seen[len(clouds.near) :]

    @property
    def moments(self) -> Float[Tensor, " nmoment"]:
        """Charges and dipoles of the far field, which its integrals' derivatives are wanted for."""
        return self._moments

    def moved(
        self, h: Float[Tensor, "n nao nao"], directions: Sequence[AtomicClouds]
    ) -> ScreenedChange:
        """Derivatives along some directions.

        Args:
            h: dh, Eh/bohr.
            directions: For each direction the derivatives of the clouds' integrals, those of
                ``electrons`` zero, ``far_field`` at fixed moments.

        Returns:
            What follows h and the clouds, charge transfer included.
        """
        clouds, near = self._clouds, len(self._clouds.near)
        by_near, _ = self._weights.split([near, len(self._moments)])
        nothing = clouds.seen(torch.zeros_like(self._h))
        found = []
        for change, moving in zip(h, directions, strict=True):
            # at fixed s: the integrals, and K = diag(near⁻¹, far)
            stiff = torch.linalg.solve(clouds.near, moving.near @ by_near)
            kernel = torch.cat([-stiff, moving.far @ self._moments])
            inside = change + moving.potential(self._weights) + clouds.potential(kernel)
            density = density_change(self._spectra[0], inside, moving.ovlp)
            dm = self._spectra[0].densities().sum(0)
            left = moving.seen(dm) + clouds.seen(density.sum(0)) - nothing
            seen = self._inverse @ left
            of_near, moments = seen.split([near, len(self._moments)])
            weights = torch.linalg.solve(clouds.near, of_near) - stiff
            fock = change + moving.far_field(self._moments) + clouds.far_field(moments)
            fock = fock + torch.einsum("k,kmn->mn", by_near, moving.three_centre)
            fock = fock + torch.einsum("k,kmn->mn", weights, clouds.three_centre)
            found.append(
                (
                    fock,
                    density_change(self._spectra[1], fock, moving.ovlp),
                    density_change(self._spectra[2], change, moving.ovlp),
                )
            )
        return ScreenedChange(*(torch.stack(part) for part in zip(*found, strict=True)))


def density_change(
    spectrum: Spectrum, change: Float[Tensor, "nao nao"], ovlp: Float[Tensor, "nao nao"]
) -> Float[Tensor, "2 nao nao"]:
    """How the densities of both spins follow a matrix and its overlap, electron numbers kept.

    Args:
        spectrum: Levels and orbitals of the matrix.
        change: Its change, Eh.
        ovlp: dS.

    Returns:
        dP of each spin.
    """
    c, levels = spectrum.orbitals, spectrum.levels
    of_ovlp = c.mT @ ovlp @ c
    turned = c.mT @ change @ c - 0.5 * of_ovlp * (levels + levels.unsqueeze(-1))
    parts = []
    for slopes, occ in zip(spectrum.slopes(), spectrum.occ, strict=True):
        along = slopes.diagonal()
        total = along.sum().clamp_max(-1e-30)
        shift = (along * turned.diagonal()).sum() / total  # of the chemical potential
        inner = slopes * turned - torch.diag(along * shift)
        inner = inner - 0.5 * of_ovlp * (occ + occ.unsqueeze(-1))
        parts.append(c @ inner @ c.mT)
    return torch.stack(parts)
