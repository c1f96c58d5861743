"""Density matrix of a Fock matrix by matrix products alone: no eigenvectors."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MAX_STEPS = 100
"""Products at most; a gap of 1e-6 of the spectral width needs about 60."""
SETTLED = 1e-7
"""Idempotency error per electron below which one more step leaves only rounding."""

Matrices = Float[Tensor, "*batch n n"]
Counts = Int[Tensor, "*batch"]


def _bounds(matrix: Matrices) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Gershgorin's bounds of the lowest and highest eigenvalue."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    radius = matrix.abs().sum(-1) - diagonal.abs()
    return (diagonal - radius).amin(-1), (diagonal + radius).amax(-1)


def _trace(matrix: Matrices) -> Float[Tensor, "*batch"]:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def _step(x: Matrices, square: Matrices, nocc: Float[Tensor, "*batch"]) -> Matrices:
    """x² or 2x - x², whichever has the trace nearer to ``nocc``."""
    trace, lower = _trace(x), _trace(square)
    shrink = (lower - nocc).abs() < (2 * trace - lower - nocc).abs()
    return torch.where(shrink[..., None, None], square, 2 * x - square)


def purified_density(
    fock: Matrices, nocc: Counts, max_steps: int = MAX_STEPS
) -> tuple[Matrices, Bool[Tensor, "*batch"]]:
    """Projector onto the lowest ``nocc`` eigenvectors of each matrix, by trace-correcting steps.

    The spectrum is mapped into [0, 1] upside down, then every step squares x or 1 - x, so that
    eigenvalues run to 0 and 1 while the trace runs to ``nocc``.

    Args:
        fock: Symmetric Fock matrices in an orthonormal basis.
        nocc: Occupied levels of each.
        max_steps: Matrix products at most.

    Returns:
        P with P² = P and tr P = ``nocc``, and which of them converged: those without a gap at
        the frontier do not, and their P is meaningless.

    Cost:
        One matrix product per step, some 40 of them for a molecule.

    References:
        A. M. N. Niklasson, Phys. Rev. B 66, 155115 (2002), eqs. 14-16.
    """
    n = fock.shape[-1]
    low, high = _bounds(fock)
    width = (high - low).clamp_min(torch.finfo(fock.dtype).tiny)
    eye = torch.eye(n, dtype=fock.dtype, device=fock.device)
    x = (high[..., None, None] * eye - fock) / width[..., None, None]
    count = nocc.to(fock.dtype)
    settled = torch.zeros_like(nocc, dtype=torch.bool)
    for _ in range(max_steps):
        square = x @ x
        error = (_trace(x) - _trace(square)).abs() / count.clamp_min(1.0)
        now = (error < SETTLED) & ((_trace(x) - count).abs() < 0.5)
        # twice more in a row: each of the two maps squares the error on one side only
        done = bool((settled & now).all())
        settled = now
        x = _step(x, square, count)
        if done:
            break
    square = x @ x
    x = 3 * square - 2 * square @ x
    x = 0.5 * (x + x.mH)
    none, full = (nocc == 0)[..., None, None], (nocc == n)[..., None, None]
    x = torch.where(none, torch.zeros_like(x), torch.where(full, eye.expand_as(x), x))
    right = (_trace(x) - count).abs() < 1e-8 * count.clamp_min(1.0)
    return x, right & torch.isfinite(x).all(-1).all(-1) & (settled | (nocc == 0) | (nocc == n))
