"""Orthonormal bases at every k, of equal size although linear dependence differs between them."""

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.ks.periodic.types import BandEnergies, BlochMatrix, BlochOperator
from deeph_zero.ks.smearing import NO_ORBITAL

SINGULAR = 1e-7
"""Smallest eigenvalue of S(k) that is taken: below it energies depend on rounding."""

REMOVED = 2 * NO_ORBITAL
"""Level (Eh) of a combination that was left out, where no electron comes."""


def singular(smallest: float, kpoint: Sequence[float] | None = None) -> InputError:
    """What is said of a basis that is linearly dependent.

    Args:
        smallest: The smallest eigenvalue of any S(k).
        kpoint: Where, in fractions of the reciprocal lattice vectors; None where it is not known.

    Returns:
        The error.
    """
    at = "" if kpoint is None else f" at k = ({', '.join(f'{x:.4g}' for x in kpoint)})"
    return InputError(
        f"expected an overlap with eigenvalues above {SINGULAR:g} at every k, got "
        f"{smallest:.1e}{at}; use a basis without diffuse functions, such as gth-dzvp-molopt-sr"
    )


def check_overlap(ovlp: BlochOperator, kpoints: Sequence[Sequence[float]]) -> BlochOperator:
    """Refuse a singular overlap before anything else is computed.

    Args:
        ovlp: S(k).
        kpoints: Fractions of the reciprocal lattice vectors, [nk, 3].

    Returns:
        S(k), unchanged.

    Raises:
        InputError: If an eigenvalue is below :data:`SINGULAR`.
    """
    smallest = torch.linalg.eigvalsh(ovlp).amin(-1).tolist()
    worst = min(range(len(smallest)), key=smallest.__getitem__)
    if not smallest[worst] >= SINGULAR:
        raise singular(smallest[worst], kpoints[worst])
    return ovlp


@final
class BlochOrthogonaliser:
    """X_k with X_k† S_k X_k = 1; columns of combinations that are left out are zero.

    Attributes:
        x: [nk, nao, nao].
        smallest: The smallest eigenvalue of any S(k).
        removed: Whether a column was left out, [nk, nao].
    """

    def __init__(self, ovlp: BlochOperator, threshold: float) -> None:
        """Decompose the overlap.

        Args:
            ovlp: S(k).
            threshold: Eigenvectors of S(k) with a smaller eigenvalue are left out at that k.

        Raises:
            InputError: If an eigenvalue is below :data:`SINGULAR`.
        """
        values, vectors = torch.linalg.eigh(ovlp)
        self.smallest = float(values.min())
        if not self.smallest >= SINGULAR:
            raise singular(self.smallest)
        keep = values > max(threshold, 0.0)
        roots = torch.where(keep, values.rsqrt(), 0.0).unsqueeze(-2)
        canonical = vectors * roots
        lowdin = canonical @ vectors.mH
        whole = keep.all(-1)
        self.x: Inexact[Tensor, "nk nao nao"] = torch.where(
            whole.reshape(-1, 1, 1), lowdin, canonical
        )
        self.removed = ~keep
        self._raise: Float[Tensor, "nk nao"] = self.removed.to(values.dtype) * REMOVED

    def transform(self, fock: Inexact[Tensor, "*spin nk nao nao"]) -> Tensor:
        """X† F X, with what was left out far above all levels."""
        raised = torch.diag_embed(self._raise).to(fock.dtype)
        return self.x.mH @ fock @ self.x + raised

    def back(self, p: BlochMatrix) -> BlochMatrix:
        """X P X†."""
        return self.x @ p @ self.x.mH

    def levels(self, fock: BlochMatrix) -> BandEnergies:
        """Eigenvalues of F(k), ascending; infinite for what was left out.

        Args:
            fock: F(k), Eh.

        Returns:
            [nspin, nk, nao], Eh.
        """
        return self.without_removed(torch.linalg.eigvalsh(self.transform(fock)))

    def orbitals(self, fock: BlochMatrix) -> tuple[BandEnergies, Tensor]:
        """Eigenvalues as :meth:`levels`, and the orbitals.

        Args:
            fock: F(k), Eh.

        Returns:
            [nspin, nk, nao], Eh; columns are orbitals, [nspin, nk, nao, nao].
        """
        energies, vectors = torch.linalg.eigh(self.transform(fock))
        return self.without_removed(energies), self.x @ vectors

    def without_removed(self, levels: BandEnergies) -> BandEnergies:
        """Levels of what was left out become infinite."""
        return torch.where(levels > NO_ORBITAL, float("inf"), levels)
