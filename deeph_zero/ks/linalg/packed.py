"""Symmetric and antisymmetric matrices as their triangles: half the memory, the same numbers."""

from jaxtyping import Float
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
    rows, columns = tril_indices(n, n, device=packed.device)
    out = packed.new_empty(*packed.shape[:-1], n, n)
    out[..., rows, columns] = packed
    out[..., columns, rows] = packed
    return out


def pack_antisymmetric(matrix: Float[Tensor, "*lead n n"]) -> Float[Tensor, "*lead pair"]:
    """Strict lower triangle times √2: inner products are those of the whole matrices.

    Args:
        matrix: Antisymmetric.

    Returns:
        n (n - 1) / 2 elements.
    """
    rows, columns = tril_indices(matrix.shape[-1], matrix.shape[-1], -1, device=matrix.device)
    return _ROOT_2 * matrix[..., rows, columns]
