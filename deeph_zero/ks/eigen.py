"""Eigen-decomposition of symmetric matrices, in one small file so the solver can be exchanged."""

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.errors import ComputationError


def symmetric_eigen(
    matrix: Float[Tensor, "*batch n n"],
) -> tuple[Float[Tensor, "*batch n"], Float[Tensor, "*batch n n"]]:
    """Ascending eigenvalues and eigenvectors (columns) of a symmetric matrix.

    Args:
        matrix: Symmetric; only the lower triangle is read.

    Returns:
        Eigenvalues and eigenvectors.

    Raises:
        ComputationError: If an element is NaN or infinite, or LAPACK fails to converge.
    """
    if not bool(torch.isfinite(matrix).all()):
        raise ComputationError(
            "a finite Fock matrix was expected, got NaN or infinite elements; "
            "check the geometry, or lower the learning rate"
        )
    try:
        return torch.linalg.eigh(matrix)
    except torch.linalg.LinAlgError as error:
        raise ComputationError(
            f"the eigen-solver did not converge on a {matrix.shape[-1]} x {matrix.shape[-1]} "
            f"matrix ({error}); check the geometry for nearly coincident atoms"
        ) from error
