"""The next matrix of an SCF: DIIS and a dielectric step, ADIIS where the energy rises."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deeph_zero.ks import occupation
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.response.dielectric import dielectric_step, stops_helping
from deeph_zero.ks.scf.adiis import adiis_coefficients
from deeph_zero.ks.scf.diis import pulay_coefficients
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
    return layer.unrestricted and smallest_gap(layer, fock) < UNDECIDED


def smallest_gap(layer: KohnShamLayer, fock: SpinMatrix) -> float:
    """Smallest gap between filled and empty levels, Eh.

    Args:
        layer: The molecule.
        fock: F, Eh.

    Returns:
        Infinite where no spin has both.
    """
    return occupation.smallest_gap(layer.orbitals(fock, 0.0).mo_energy, layer.nelec)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
    """What to diagonalise next, said but not yet computed: several molecules' are made at once.

    Attributes:
        weights: c_k of Σ_k c_k F_k and Σ_k c_k P_k.
        focks: F_k, Eh.
        dms: P_k.
        dielectric: Whether the mean is moved on by the dielectric step.
    """

    weights: Sequence[float]
    focks: Sequence[SpinMatrix]
    dms: Sequence[SpinMatrix]
    dielectric: bool = False

    def matrix(self, layer: KohnShamLayer, degeneracy_tol: float) -> SpinMatrix:
        """The matrix itself, of one molecule.

        Args:
            layer: The molecule.
            degeneracy_tol: Frontier levels closer than this (Eh) are filled evenly.

        Returns:
            Eh.
        """
        fock = self._mean(self.focks)
        if not self.dielectric:
            return fock
        return fock + dielectric_step(layer, fock, self._mean(self.dms), degeneracy_tol)

    def _mean(self, matrices: Sequence[SpinMatrix]) -> SpinMatrix:
        if len(matrices) == 1:
            return matrices[0]
        stacked = torch.stack(list(matrices))
        return torch.einsum("k,k...->...", stacked.new_tensor(self.weights), stacked)


class Mixer:
    """Chooses the next Fock matrix from the builds so far.

    Attributes:
        focks: Remembered Fock matrices, oldest first, Eh.
        dms: Their density matrices.
        errors: Their commutators, flat.
    """

    def __init__(self, layer: KohnShamLayer, settings: "SCFSettings") -> None:
        """Start with an empty history.

        Args:
            layer: The molecule.
            settings: The iteration's knobs. With damping, level shift or smearing the
                dielectric step is off: it follows the orbitals of the unchanged matrix.
        """
        self.settings = settings
        self.focks: list[SpinMatrix] = []
        self.dms: list[SpinMatrix] = []
        self.errors: list[Tensor] = []
        self._gram: list[list[float]] = []
        self._norms: list[float] = []
        plain = settings.damp == 0 and settings.level_shift == 0 and layer.smearing == 0
        self._dielectric = settings.dielectric and plain

    def __len__(self) -> int:
        """Number of builds remembered."""
        return len(self.focks)

    def add(
        self,
        fock: SpinMatrix,
        dm: SpinMatrix,
        error: Tensor,
        products: Sequence[float] | None = None,
    ) -> None:
        """Remember one build; the oldest one is forgotten where there are too many.

        Args:
            fock: F[dm], Eh.
            dm: Its density matrix.
            error: Its commutator.
            products: Its inner products with :attr:`errors` and itself, where they are known.
        """
        flat = error.reshape(-1)
        if products is None:
            products = (torch.stack([*self.errors, flat]) @ flat).tolist()
        for row, product in zip(self._gram, products, strict=False):
            row.append(product)
        self._gram.append(list(products))
        self._norms.append(products[-1] ** 0.5)
        for kept, new in ((self.focks, fock), (self.dms, dm), (self.errors, flat)):
            kept.append(new)
        if len(self.focks) > self.settings.diis_space:
            for kept in (self.focks, self.dms, self.errors, self._gram):
                del kept[0]
            for row in self._gram:
                del row[0]

    def replace(
        self, focks: Sequence[SpinMatrix], errors: Sequence[Tensor], gram: list[list[float]]
    ) -> None:
        """Take the builds of a changed problem, at the same densities, for those remembered.

        Args:
            focks: Their Fock matrices, Eh.
            errors: Their commutators, flat.
            gram: Inner products of the errors.
        """
        self.focks, self.errors, self._gram = list(focks), list(errors), gram
        self._norms = [row[k] ** 0.5 for k, row in enumerate(gram)]

    def first(self, fock: SpinMatrix, dm: SpinMatrix, *, undecided: bool) -> Mixture:
        """What to diagonalise first.

        Args:
            fock: F[dm] of the start, Eh.
            dm: The start, whether remembered or not.
            undecided: An open shell's gap is below :data:`UNDECIDED`.

        Returns:
            The matrix.
        """
        self._dielectric = self._dielectric and not undecided
        return Mixture(weights=[1.0], focks=[fock], dms=[dm], dielectric=self._dielectric)

    def next(
        self, cycle: int, fock: SpinMatrix, previous: SpinMatrix, *, downhill: bool
    ) -> Mixture:
        """What to diagonalise after a build that was remembered.

        Args:
            cycle: Number of the cycle that made the build, from 1.
            fock: F of that build, Eh.
            previous: F of the one before, Eh.
            downhill: Minimise the energy of the mixture (ADIIS) in place of the commutator.

        Returns:
            The matrix.
        """
        if cycle < self.settings.diis_start:
            weights = [1 - self.settings.damp, self.settings.damp]
            return Mixture(weights=weights, focks=[fock, previous], dms=[fock, previous])
        if downhill and len(self) > 1:
            weights = adiis_coefficients(self.dms, self.focks).tolist()
            return Mixture(weights=weights, focks=tuple(self.focks), dms=tuple(self.dms))
        # once it did not help it is left alone: what comes after is plain DIIS
        self._dielectric = self._dielectric and not stops_helping(self._norms)
        return self.extrapolated()

    def extrapolated(self) -> Mixture:
        """What DIIS makes of the builds remembered."""
        gram = torch.tensor(self._gram, dtype=torch.float64)
        weights = pulay_coefficients(gram).tolist() if len(gram) > 1 else [1.0]
        return Mixture(
            weights=weights,
            focks=tuple(self.focks),
            dms=tuple(self.dms),
            dielectric=self._dielectric,
        )
