"""The next matrix of an SCF: DIIS and a dielectric step, ADIIS where the energy rises."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.response.dielectric import dielectric_step, stops_helping
from deeph_zero.ks.scf.adiis import adiis_coefficients
from deeph_zero.ks.scf.diis import DIIS
from deeph_zero.types import SpinMatrix

if TYPE_CHECKING:
    from deeph_zero.ks.scf.result import SCFSettings

UNDECIDED = 0.06
"""Gap (Eh) of a spin channel below which the start has not decided which orbital the hole of an
open shell is in. A long step would: of water's cation, hydroxyl and benzene's cation it found
higher states, or the same one later."""


def is_undecided(layer: KohnShamLayer, fock: SpinMatrix) -> bool:
    """Whether an open shell's levels leave it open which orbital its hole is in.

    Args:
        layer: The molecule.
        fock: F of the start, Eh.

    Returns:
        True if a spin channel's gap is below :data:`UNDECIDED`; False for closed shells.
    """
    if not layer.unrestricted:
        return False
    levels = layer.orbitals(fock).mo_energy
    pairs = zip(levels, layer.nelec, strict=True)
    return any(0 < n < layer.nmo and float(e[n] - e[n - 1]) < UNDECIDED for e, n in pairs)


class Mixer:
    """Chooses the next Fock matrix from the builds so far."""

    def __init__(self, layer: KohnShamLayer, settings: "SCFSettings") -> None:
        """Start with an empty history.

        Args:
            layer: The molecule.
            settings: The iteration's knobs. Whoever damps, shifts or smears gets no dielectric
                step: it follows the orbitals of the unchanged matrix.
        """
        self.layer = layer
        self.settings = settings
        self.diis = DIIS(settings.diis_space)
        plain = settings.damp == 0 and settings.level_shift == 0 and layer.smearing == 0
        self._dielectric = settings.dielectric and plain
        self._norms: list[float] = []

    def add(self, fock: SpinMatrix, dm: SpinMatrix, error: Tensor | None = None) -> None:
        """Remember one build.

        Args:
            fock: F[dm], Eh.
            dm: Its density matrix.
            error: Its commutator, where it is known.
        """
        error = self.layer.commutator(fock, dm) if error is None else error
        self.diis.add(torch.stack([fock, dm]), error)
        self._norms.append(float(error.norm()))

    def move(self, change: SpinMatrix) -> None:
        """Add a constant to every remembered Fock matrix: the builds of a changed problem.

        Args:
            change: The constant, Eh.
        """
        builds = [pair.unbind(0) for pair in self.diis.focks]
        self.diis.clear()
        self._norms.clear()
        for fock, dm in builds:
            self.add(fock + change, dm)

    def go_on(self) -> SpinMatrix:
        """What to diagonalise after :meth:`move`."""
        return self._extrapolated()

    def first_fock(self, fock: SpinMatrix, dm: SpinMatrix) -> SpinMatrix:
        """What to diagonalise first.

        Args:
            fock: F[dm] of the start, Eh.
            dm: The start, whether remembered or not.

        Returns:
            The matrix, Eh.
        """
        self._dielectric = self._dielectric and not is_undecided(self.layer, fock)
        return self._moved(fock, dm)

    def next_fock(
        self, cycle: int, fock: SpinMatrix, previous: SpinMatrix, *, downhill: bool
    ) -> SpinMatrix:
        """What to diagonalise after a build that was remembered.

        Args:
            cycle: Number of the cycle that made the build, from 1.
            fock: F of that build, Eh.
            previous: F of the one before, Eh.
            downhill: Minimise the energy of the mixture (ADIIS) in place of the commutator.

        Returns:
            The matrix, Eh.
        """
        if cycle < self.settings.diis_start:
            return (1 - self.settings.damp) * fock + self.settings.damp * previous
        if downhill and len(self.diis) > 1:
            pairs = torch.stack(self.diis.focks)
            c = adiis_coefficients(list(pairs[:, 1]), list(pairs[:, 0]))
            return torch.einsum("k,k...->...", c, pairs[:, 0])
        # once it did not help it is left alone: what comes after is plain DIIS
        self._dielectric = self._dielectric and not stops_helping(self._norms)
        return self._extrapolated()

    def _extrapolated(self) -> SpinMatrix:
        mean, mean_dm = self.diis.extrapolate().unbind(0)
        return self._moved(mean, mean_dm)

    def _moved(self, fock: SpinMatrix, dm: SpinMatrix) -> SpinMatrix:
        if not self._dielectric:
            return fock
        return fock + dielectric_step(self.layer, fock, dm, self.settings.degeneracy_tol)
