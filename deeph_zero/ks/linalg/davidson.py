"""Davidson's method for the lowest eigenvalue of a symmetric map that is known by its products."""

import dataclasses
import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Vector = Float[Tensor, " n"]

_START_VECTORS = 3
_FOLLOWED = 2
"""Ritz vectors improved together: a second one finds a symmetry the first has no part in."""

_DENOMINATOR_FLOOR = 1e-2


@dataclasses.dataclass(frozen=True)
class Eigenpair:
    """The lowest eigenvalue found; its error is about the square of ``residual`` over the gap.

    Attributes:
        value: Ritz value, an upper bound of the lowest eigenvalue.
        vector: Normalised.
        residual: ‖A v - value v‖.
        converged: The residual is below the tolerance.
        products: Products spent.
    """

    value: float
    vector: Vector
    residual: float
    converged: bool
    products: int


def lowest_eigenpair(
    product: Callable[[Vector], Vector],
    diagonal: Vector,
    *,
    tol: float = 1e-4,
    max_products: int = 60,
    enough: float = -math.inf,
) -> Eigenpair:
    """Lowest eigenpair of a symmetric A.

    Starts from the unit vectors of the smallest diagonal elements, plus a small fixed
    pseudo-random part so that no symmetry is left out.

    Args:
        product: v -> A v.
        diagonal: Approximate diagonal of A, the preconditioner.
        tol: Residual norm to reach.
        max_products: Products at most.
        enough: Stop at a Ritz value below this, whatever its residual.

    Returns:
        The pair; ``converged`` says whether the tolerance was met.

    References:
        E. R. Davidson, J. Comput. Phys. 17, 87 (1975), eqs. 10-16.
    """
    n = diagonal.shape[0]
    basis, image = diagonal.new_zeros(n, 0), diagonal.new_zeros(n, 0)
    new = list(_start(diagonal).unbind(1))
    value, vector, norm = float("inf"), diagonal.new_zeros(n), float("inf")
    while basis.shape[1] < min(max_products, n):
        grown = _extend(basis, new)
        if grown.shape[1] == basis.shape[1]:
            break
        fresh = grown[:, basis.shape[1] :][:, : max_products - basis.shape[1]]
        image = torch.cat([image, torch.stack([product(v) for v in fresh.unbind(1)], 1)], 1)
        basis = torch.cat([basis, fresh], 1)
        small = basis.mT @ image
        values, vectors = torch.linalg.eigh(0.5 * (small + small.mT))
        count = min(_FOLLOWED, len(values))
        ritz = basis @ vectors[:, :count]
        residuals = image @ vectors[:, :count] - ritz * values[:count]
        norms = residuals.norm(dim=0)
        value, vector, norm = float(values[0]), ritz[:, 0], float(norms[0])
        if value < enough:
            break
        # the second root only has to show that it is the second
        if norm < tol and float(norms[count - 1]) < max(100 * tol, 0.1 * float(values[count - 1])):
            break
        new = []
        for k in range(count):
            shift = values[k] - diagonal
            sign = torch.where(shift < 0, -1.0, 1.0)
            new.append(residuals[:, k] / (sign * shift.abs().clamp_min(_DENOMINATOR_FLOOR)))
    return Eigenpair(value, vector, norm, norm < tol or basis.shape[1] == n, basis.shape[1])


def _start(diagonal: Vector) -> Float[Tensor, "n m"]:
    n = diagonal.shape[0]
    count = min(_START_VECTORS, n)
    lowest = diagonal.argsort()[:count]
    start = diagonal.new_zeros(n, count)
    start[lowest, torch.arange(count, device=diagonal.device)] = 1.0
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(n, count, generator=generator, dtype=diagonal.dtype) - 0.5
    offset = (diagonal - diagonal.min() + 0.5).unsqueeze(1)
    return start + 0.1 * noise.to(diagonal.device) / offset


def _extend(basis: Float[Tensor, "n m"], new: list[Tensor]) -> Tensor:
    """``basis`` with the parts of ``new`` that are orthogonal to it appended, normalised."""
    for candidate in new:
        v = candidate / candidate.norm().clamp_min(1e-300)
        for _ in range(2):  # twice is enough against rounding
            v = v - basis @ (basis.mT @ v)
        size = float(v.norm())
        if size > 1e-6:
            basis = torch.cat([basis, (v / size).unsqueeze(1)], 1)
    return basis
