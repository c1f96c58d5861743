"""Eigenvectors and projectors of symmetric matrices; the one place that chooses how, by device."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.ks.linalg.purify import purified_density

EigenSolver = Literal["torch", "cupy"]
ProjectorMethod = Literal["eigen", "purify"]


@dataclasses.dataclass(frozen=True)
class Policy:
    """How to diagonalise on one kind of device.

    Attributes:
        eigen: "torch" (LAPACK, cuSOLVER) or "cupy" (cuSOLVER's batched solver; needs CuPy).
        projector: Densities that need neither orbitals nor a gradient: by "eigen" vectors or by
            "purify", matrix products alone.
        purify_above: Matrices up to this size are diagonalised all the same.
    """

    eigen: EigenSolver = "torch"
    projector: ProjectorMethod = "eigen"
    purify_above: int = 0


POLICY: dict[str, Policy] = {
    "cpu": Policy(),
    # torch's batched solver for n > 32 works matrix by matrix in many versions
    "cuda": Policy(projector="purify", purify_above=32),
}
"""By device type; replace an entry to choose otherwise."""


NOT_FINITE = (
    "a finite Fock matrix was expected, got NaN or infinite elements; "
    "check the geometry, or lower the learning rate"
)


def policy(device: torch.device) -> Policy:
    """The policy of a device."""
    return POLICY.get(device.type, POLICY["cpu"])


def _cupy_eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    try:
        import cupy  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "the eigen-solver 'cupy' expected CuPy, which is not installed; use 'torch'"
        ) from None
    values, vectors = cupy.linalg.eigh(cupy.from_dlpack(matrix.detach().contiguous()))
    return torch.from_dlpack(values), torch.from_dlpack(vectors)


_SOLVERS: dict[str, Callable[[Tensor], Any]] = {"torch": torch.linalg.eigh, "cupy": _cupy_eigh}


def check_finite(matrix: Tensor) -> None:
    """See whether all elements are finite; the host waits for a device.

    Args:
        matrix: Any.

    Raises:
        ComputationError: If an element is NaN or infinite.
    """
    if not bool(torch.isfinite(matrix).all()):
        raise ComputationError(NOT_FINITE)


def symmetric_eigen(
    matrix: Inexact[Tensor, "*batch n n"], *, checked: bool = False
) -> tuple[Float[Tensor, "*batch n"], Inexact[Tensor, "*batch n n"]]:
    """Ascending eigenvalues and eigenvectors (columns) of a symmetric or Hermitian matrix.

    Args:
        matrix: Symmetric; only the lower triangle is read.
        checked: The caller has made sure that all elements are finite.

    Returns:
        Eigenvalues and eigenvectors.

    Raises:
        ComputationError: If an element is NaN or infinite, or LAPACK fails to converge.
        InputError: If the policy names a solver that is not installed.
    """
    if not checked:
        check_finite(matrix)
    try:
        return _SOLVERS[policy(matrix.device).eigen](matrix)
    except torch.linalg.LinAlgError as error:
        raise ComputationError(
            f"the eigen-solver did not converge on a {matrix.shape[-1]} x {matrix.shape[-1]} "
            f"matrix ({error}); check the geometry for nearly coincident atoms"
        ) from error


def projector(
    fock: Float[Tensor, "batch n n"], nocc: Int[Tensor, " batch"], *, checked: bool = False
) -> Float[Tensor, "batch n n"]:
    """Projectors onto the lowest ``nocc`` eigenvectors, without a gradient.

    Args:
        fock: Symmetric matrices in an orthonormal basis.
        nocc: Occupied levels of each.
        checked: The caller has made sure that all elements are finite.

    Returns:
        P, by the method of the device's policy; where purification finds no gap, by eigenvectors.

    Raises:
        ComputationError: As :func:`symmetric_eigen`.
    """
    chosen = policy(fock.device)
    if chosen.projector == "purify" and fock.shape[-1] > chosen.purify_above:
        found, converged = purified_density(fock, nocc)
        if not bool(converged.all()):
            rest = torch.nonzero(~converged).reshape(-1)
            found[rest] = _eigen_projector(fock[rest], nocc[rest], checked)
        return found
    return _eigen_projector(fock, nocc, checked)


def _eigen_projector(fock: Tensor, nocc: Tensor, checked: bool) -> Tensor:
    _, vectors = symmetric_eigen(fock, checked=checked)
    levels = torch.arange(fock.shape[-1], device=fock.device)
    occ = (levels < nocc.unsqueeze(-1)).to(fock.dtype)
    return (vectors * occ.unsqueeze(-2)) @ vectors.mH
