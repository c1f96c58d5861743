"""Pulay's direct inversion in the iterative subspace, over remembered Fock builds."""

import torch
from jaxtyping import Float
from torch import Tensor


class DIIS:
    """Extrapolates Fock matrices from their commutators.

    References:
        P. Pulay, J. Comput. Chem. 3, 556 (1982), eqs. 4-6.
    """

    def __init__(self, space: int = 8) -> None:
        """Start with an empty history.

        Args:
            space: Number of builds remembered; the oldest is dropped.
        """
        self.space = space
        self.focks: list[Tensor] = []
        self.errors: list[Tensor] = []
        self._expected: float | None = None

    def __len__(self) -> int:
        """Number of builds remembered."""
        return len(self.focks)

    def clear(self) -> None:
        """Forget everything."""
        self.focks.clear()
        self.errors.clear()
        self._expected = None

    def keep_last(self) -> None:
        """Forget all but the newest build."""
        del self.focks[:-1], self.errors[:-1]
        self._expected = None

    def add(self, fock: Tensor, error: Tensor) -> None:
        """Remember one build and its commutator (any shapes; of errors, inner products count)."""
        self.focks.append(fock)
        self.errors.append(error.reshape(-1))
        self._expected = None
        if len(self.focks) > self.space:
            self.focks.pop(0)
            self.errors.pop(0)

    def extrapolate(self) -> Tensor:
        """Σ_k c_k F_k with Σ c_k = 1 that minimises ‖Σ c_k e_k‖.

        Returns:
            The extrapolated Fock matrix; the single one while only one is remembered.
        """
        if len(self.focks) == 1:
            return self.focks[0]
        return torch.einsum("k,k...->...", self.coefficients(), torch.stack(self.focks))

    def expected_error(self) -> float:
        """‖Σ c_k e_k‖: what the commutator at the extrapolation would be if it were linear."""
        if self._expected is None:  # asked again and again: a device is waited for once
            found = (self.coefficients() @ torch.stack(self.errors)).norm()
            self._expected = float(found)
        return self._expected

    def coefficients(self) -> Tensor:
        """The c_k of :meth:`extrapolate`, oldest first."""
        errors = torch.stack(self.errors)
        return pulay_coefficients((errors @ errors.mT).cpu()).to(errors.device)


def pulay_coefficients(gram: Float[Tensor, "n n"]) -> Float[Tensor, " n"]:
    """The c_k with Σ c_k = 1 that minimise ‖Σ c_k e_k‖.

    The normal equations are scaled by the smallest residual and solved in the eigenbasis,
    small eigenvalues dropped, so that parallel residuals cannot blow the coefficients up.

    Args:
        gram: Inner products of the residuals e_k, on the host: a few numbers are no work for a
            device.

    Returns:
        The coefficients.
    """
    n = len(gram)
    scale = gram.diagonal().clamp_min(1e-300).sqrt()
    # Columns are scaled by their own norm: late residuals are many orders below early ones.
    lagrange = gram.new_zeros(n + 1, n + 1)
    lagrange[:n, :n] = gram / (scale.unsqueeze(0) * scale.unsqueeze(1))
    smallest = scale.min()
    lagrange[:n, n] = lagrange[n, :n] = smallest / scale
    rhs = gram.new_zeros(n + 1)
    rhs[n] = 1.0
    values, vectors = torch.linalg.eigh(lagrange)
    keep = values.abs() > 1e-12
    solution = vectors[:, keep] @ ((vectors[:, keep].mT @ rhs) / values[keep])
    coefficients = solution[:n] * (smallest / scale)
    return coefficients / coefficients.sum()
