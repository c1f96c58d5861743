"""A correction to a Fock matrix kept within the size that corrections have.

Small errors of matrix elements are multiplied by the inverse of the overlap: where orbitals are
nearly dependent (eigenvalues of S of 1e-3 are usual) an error of 10 mEh makes a level of several
hartree that is not there, and it may be occupied. True corrections are the same between orthonormal
orbitals as potentials are: tenths of a hartree.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.types import AOMatrix

MARGIN = 0.5
"""What a correction may exceed the seen range by on either side, as a part of its width."""
LEAST = 0.1
"""Least of what it may exceed the range by, Eh."""


def eigenvalue_range(correction: AOMatrix, x: Float[Tensor, "nao nmo"]) -> tuple[float, float]:
    """Lowest and highest eigenvalue of Xᵀ Δ X, Eh.

    Args:
        correction: Δ, Eh.
        x: X with Xᵀ S X = 1.

    Returns:
        Both, over the spins.
    """
    levels = torch.linalg.eigvalsh(x.mT @ correction.to(x) @ x)
    return float(levels.min()), float(levels.max())


def bounded(
    correction: AOMatrix,
    x: Float[Tensor, "nao nmo"],
    ovlp: Float[Tensor, "nao nao"],
    seen: tuple[float, float],
) -> AOMatrix:
    """The correction with its eigenvalues between orthonormal orbitals kept within bounds.

    Args:
        correction: Δ, Eh.
        x: X with Xᵀ S X = 1.
        ovlp: S.
        seen: Range of the eigenvalues in training, Eh; none if the first is above the second.

    Returns:
        Δ itself if all of its eigenvalues are within the range and its margin; otherwise
        Δ + S X (d' - d) Xᵀ S, d' the matrix d = Xᵀ Δ X with the outlying eigenvalues moved to the
        bounds.
    """
    low, high = seen
    if low > high or not bool(torch.isfinite(correction).all()):
        return correction
    spare = max(MARGIN * (high - low), LEAST)
    levels, vectors = torch.linalg.eigh(x.mT @ correction.to(x) @ x)
    kept = levels.clamp(low - spare, high + spare)
    if torch.equal(kept, levels):
        return correction
    back = ovlp @ x @ vectors
    return correction + (back * (kept - levels).unsqueeze(-2)) @ back.mT
