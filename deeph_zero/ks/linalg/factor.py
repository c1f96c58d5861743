"""A density matrix as a sum of few orbitals: the cheap way to every quantity linear in it."""

import contextlib

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks.parallel.sharing import threads_per_operation
from deeph_zero.types import AOMatrix

Factor = tuple[Tensor, Tensor]
"""Columns [nao, rank] and signs [rank] of :func:`spectral_factor`."""
_NOISE = 1e-12
"""Eigenvalues this far below the largest are rounding: of the density and of its eigenvectors."""
_LONG = 400
"""Orbitals from which more threads are worth their start."""
_WIDTH = 8
"""Orbitals are padded to a multiple of it with zeros: narrow odd matrices multiply slowly."""


def spectral_factor(
    dm: Float[Tensor, "nao nao"],
) -> tuple[Float[Tensor, "nao rank"], Float[Tensor, " rank"]]:
    """Columns c and signs s with dm = Σ_i s_i c_i c_iᵀ, rounding-level eigenvalues left out.

    Args:
        dm: Symmetric matrix.

    Returns:
        The eigenvectors times the root of the absolute eigenvalue, and the signs; rank is the
        number of eigenvalues beyond rounding, 0 for a zero matrix.
    """
    long = dm.shape[-1] >= _LONG
    with threads_per_operation() if long else contextlib.nullcontext():
        values, vectors = torch.linalg.eigh(dm)
    size = values.abs()
    keep = size > _NOISE * size.max()
    values, vectors = values[keep], vectors[:, keep]
    return vectors * values.abs().sqrt(), values.sign()


def spectral_factors(dm: AOMatrix) -> "list[Factor] | None":
    """The factor of each spin channel, or None where ``dm`` is not finite.

    Args:
        dm: Symmetric matrix or matrices.

    Returns:
        One pair of :func:`spectral_factor` per matrix.
    """
    if not bool(torch.isfinite(dm).all()):  # eigh refuses it; the density must say NaN
        return None
    return [spectral_factor(one) for one in dm.reshape(-1, *dm.shape[-2:])]


def occupied_columns(factor: "Factor") -> Float[Tensor, "nao width"] | None:
    """Columns c with dm = Σ_i c_i c_iᵀ, or None where that saves nothing.

    Args:
        factor: Columns and signs of :func:`spectral_factor`.

    Returns:
        Occupied orbitals with the root of their occupation, some of them zero columns; None if an
        eigenvalue is negative or more than half of them are occupied.
    """
    columns, signs = factor
    nao, rank = columns.shape
    if 2 * rank > nao or bool((signs < 0).any()):
        return None
    return torch.nn.functional.pad(columns, (0, -rank % _WIDTH))
