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

_EQUAL = 1e-9
"""Levels (Eh) nearer than this count as one in divided differences."""


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
    low, high = _bounds(seen)
    if low > high or not bool(torch.isfinite(correction).all()):
        return correction
    levels, vectors = torch.linalg.eigh(x.mT @ correction.to(x) @ x)
    kept = levels.clamp(low, high)
    if torch.equal(kept, levels):
        return correction
    back = ovlp @ x @ vectors
    return correction + (back * (kept - levels).unsqueeze(-2)) @ back.mT


def bounded_change(
    correction: AOMatrix,
    change: AOMatrix,
    ovlp: Float[Tensor, "nao nao"],
    moved: Float[Tensor, "nao nao"],
    seen: tuple[float, float],
) -> AOMatrix:
    """How the bounded correction follows Δ and S, all functions kept.

    Args:
        correction: Δ, Eh.
        change: dΔ.
        ovlp: S.
        moved: dS.
        seen: As in :func:`bounded`.

    Returns:
        Derivative of :func:`bounded`; of a level at the very bound that of the inside.
    """
    low, high = _bounds(seen)
    # generalised eigenvectors: vᵀ S v = 1, and S V Vᵀ = 1
    x = torch.linalg.inv(torch.linalg.cholesky(ovlp)).mT
    levels, vectors = torch.linalg.eigh(x.mT @ correction @ x)
    kept = levels.clamp(low, high)
    if low > high or torch.equal(kept, levels):
        return change
    v = x @ vectors
    gap = levels.unsqueeze(-1) - levels.unsqueeze(-2)
    equal = gap.abs() < _EQUAL
    inside = (kept == levels).to(levels).unsqueeze(-1)
    ratio = torch.where(
        equal, inside, (kept.unsqueeze(-1) - kept.unsqueeze(-2)) / gap.where(~equal, 1.0)
    )
    own, of_ovlp = v.mT @ change @ v, v.mT @ moved @ v
    # V follows S by -½ V (Vᵀ dS V), and S V is V's inverse transposed
    turned = own - 0.5 * of_ovlp * (levels.unsqueeze(-1) + levels.unsqueeze(-2))
    back = ovlp @ v
    middle = ratio * turned + 0.5 * of_ovlp * (kept.unsqueeze(-1) + kept.unsqueeze(-2))
    return back @ middle @ back.mT


def _bounds(seen: tuple[float, float]) -> tuple[float, float]:
    """The range with its margin; as it is where there is none."""
    low, high = seen
    spare = max(MARGIN * (high - low), LEAST) if low <= high else 0.0
    return low - spare, high + spare
