"""Conjugate gradients for several right-hand sides of one symmetric operator, step by step.

The caller decides when to stop: at a residual, at a boundary, or where the operator turns out
not to be positive definite. Each system has step lengths of its own; products are asked for all
systems that are not finished in one call.
"""

import dataclasses
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Vectors = Float[Tensor, "nrhs size"]
PerSystem = Float[Tensor, " nrhs"]
Product = Callable[[Vectors], Vectors]


@dataclasses.dataclass(frozen=True)
class Step:
    """One step before it is taken; finished systems stand still, with zeros.

    Attributes:
        solution: x so far.
        residual: b - A x.
        direction: p.
        product: A p.
        curvature: p·A p; negative or zero where A is not positive definite.
        length: How far along p the minimum of ½ x·Ax - b·x is.
        active: Which systems are not finished.
    """

    solution: Vectors
    residual: Vectors
    direction: Vectors
    product: Vectors
    curvature: PerSystem
    length: PerSystem
    active: Bool[Tensor, " nrhs"]

    @property
    def moved(self) -> Vectors:
        """x after the step."""
        return self.solution + self.length.unsqueeze(-1) * self.direction

    @property
    def left(self) -> Vectors:
        """b - A x after the step."""
        return self.residual - self.length.unsqueeze(-1) * self.product


def steps(
    product: Product,
    rhs: Vectors,
    goal: PerSystem,
    precondition: Product | None = None,
    *,
    watch: bool = True,
) -> Iterator[Step]:
    """The steps to the solutions of A x = b from x = 0; ends where all are finished.

    Args:
        product: A times some vectors, [n, size] for any n.
        rhs: b of each system.
        goal: Norm of the residual at which a system is finished; a residual that is not a number
            finishes it as well.
        precondition: Approximate inverse of A, symmetric and positive definite, on all systems.
        watch: False never looks whether all are finished, for which the host had to wait for a
            device; the steps then go on without end, and products are asked for all systems.

    Yields:
        Steps not taken yet: a consumer that stops has spent no product in vain.

    References:
        M. R. Hestenes and E. Stiefel, J. Res. Natl. Bur. Stand. 49, 409 (1952), eqs. 3:1.
    """
    solution, residual = torch.zeros_like(rhs), rhs
    scaled = rhs if precondition is None else precondition(rhs)
    direction, size = scaled, _dot(residual, scaled)
    while True:
        active = residual.norm(dim=-1) > goal
        going = active.tolist() if watch else [True]  # the only wait for a device
        if not any(going):
            return
        along = product(direction) if all(going) else _of_some(product, direction, going)
        curvature = torch.where(active, _dot(direction, along), 0.0)
        length = torch.where(active & (curvature != 0), size / curvature, 0.0)
        step = Step(solution, residual, direction, along, curvature, length, active)
        yield step
        solution, residual = step.moved, step.left
        scaled = residual if precondition is None else precondition(residual)
        size, before = _dot(residual, scaled), size
        ratio = torch.where(active & (before != 0), size / before, 0.0)
        direction = scaled + ratio.unsqueeze(-1) * direction


def _of_some(product: Product, vectors: Vectors, which: list[bool]) -> Vectors:
    """A times those vectors whose systems are not finished; zero for the others."""
    index = torch.tensor([k for k, going in enumerate(which) if going], device=vectors.device)
    return torch.zeros_like(vectors).index_copy_(0, index, product(vectors[index]))


@dataclasses.dataclass(frozen=True)
class Solution:
    """Where an iteration ended.

    Attributes:
        x: The solutions.
        residual: Norms of b - A x.
        converged: Every residual is at its goal.
        definite: No direction of negative curvature was met.
        products: Products with single vectors.
    """

    x: Vectors
    residual: PerSystem
    converged: bool
    definite: bool
    products: int


def solve(
    product: Product,
    rhs: Vectors,
    *,
    precondition: Product,
    goal: PerSystem,
    max_steps: int,
) -> Solution:
    """Solutions of A x = b to a residual.

    Directions of negative curvature are followed to the stationary point: for a symmetric operator
    that is not definite the result is the solution all the same where the iteration gets there.

    Args:
        product: A times some vectors.
        rhs: b of each system.
        precondition: Approximate inverse of A, positive definite.
        goal: Norm of the residual to reach, of each.
        max_steps: Steps at most.

    Returns:
        The solutions and what is left.
    """
    x, left, definite, products = torch.zeros_like(rhs), rhs, True, 0
    iteration = steps(product, rhs, goal, precondition)
    for _, step in zip(range(max_steps), iteration, strict=False):
        x, left = step.moved, step.left
        active = step.curvature != 0
        definite = definite and bool((step.curvature[active] > 0).all())
        products += int(active.sum())
    residual = left.norm(dim=-1)
    return Solution(x, residual, bool((residual <= goal).all()), definite, products)


def _dot(a: Vectors, b: Vectors) -> PerSystem:
    return (a * b).sum(-1)
