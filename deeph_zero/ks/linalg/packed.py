"""Symmetric and antisymmetric matrices as their triangles: half the memory, the same numbers."""

import functools

import torch
from jaxtyping import Float, Int
from torch import Tensor, tril_indices

_ROOT_2 = 2.0**0.5


def pack_symmetric(matrix: Float[Tensor, "*lead n n"]) -> Float[Tensor, "*lead pair"]:
    """Lower triangle of a symmetric matrix, row by row.

    Args:
        matrix: Symmetric.

    Returns:
        n (n + 1) / 2 elements.
    """
    rows, columns = tril_indices(matrix.shape[-1], matrix.shape[-1], device=matrix.device)
    return matrix[..., rows, columns]


def unpack_symmetric(packed: Float[Tensor, "*lead pair"]) -> Float[Tensor, "*lead n n"]:
    """Inverse of :func:`pack_symmetric`.

    Args:
        packed: Lower triangle.

    Returns:
        The matrix, exactly symmetric.
    """
    n = round((2 * packed.shape[-1] + 0.25) ** 0.5 - 0.5)
    return packed[..., pair_index(n, packed.device)]


@functools.lru_cache(maxsize=8)
def pair_index(n: int, device: torch.device) -> Int[Tensor, "n n"]:
    """Position of the element (i, j) in a packed lower triangle, symmetric in i and j."""
    m = torch.arange(n, device=device)
    high = torch.maximum(m.unsqueeze(1), m.unsqueeze(0))
    low = torch.minimum(m.unsqueeze(1), m.unsqueeze(0))
    return high * (high + 1) // 2 + low


def pack_antisymmetric(matrix: Float[Tensor, "*lead n n"]) -> Float[Tensor, "*lead pair"]:
    """Strict lower triangle times √2: inner products are those of the whole matrices.

    Args:
        matrix: Antisymmetric.

    Returns:
        n (n - 1) / 2 elements.
    """
    rows, columns = tril_indices(matrix.shape[-1], matrix.shape[-1], -1, device=matrix.device)
    return _ROOT_2 * matrix[..., rows, columns]
