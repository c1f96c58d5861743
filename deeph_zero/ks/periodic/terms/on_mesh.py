"""Energies that are functionals of the density on a grid, evaluated together."""

import dataclasses
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from deeph_zero.ks.periodic.grid import BlochGrid, density_rows, potential_matrix
from deeph_zero.ks.periodic.terms.potential import Potential, Quadrature
from deeph_zero.ks.periodic.types import BlochMatrix, KWeights, MeshRows
from deeph_zero.ks.terms.term import Contribution, Density, Term
from deeph_zero.types import Scalar


@dataclasses.dataclass(frozen=True)
class MeshBuild:
    """What one density gives on the grid.

    Attributes:
        parts: Energies (Eh per cell) by the potentials' names.
        rho: Density variables.
        rows: Sum of all potentials, one for each density variable, Eh and its like.
        contribution: Their sum as that of one term.
    """

    parts: dict[str, Scalar]
    rho: MeshRows
    rows: MeshRows
    contribution: Contribution


@final
class MeshTerm(Term):
    """Energies of the density on points: one pass to it, one back, for all of them."""

    name = "mesh"
    on_grid = True

    def __init__(
        self,
        grid: BlochGrid,
        weights: KWeights,
        weight: Quadrature,
        potentials: Sequence[Potential],
    ) -> None:
        """Keep the grid and what is evaluated on it.

        Args:
            grid: AO values.
            weights: w_k.
            weight: Quadrature weight of the points, bohr³.
            potentials: The energies; there may be none.
        """
        self.grid = grid
        self.weights = weights
        self.weight = weight
        self.potentials = tuple(potentials)
        self.nvar = max((p.nvar for p in potentials), default=1)

    def build(self, dm: BlochMatrix) -> MeshBuild:
        """Everything at once.

        Args:
            dm: Density matrix.

        Returns:
            Energies, density, potentials and their matrices.
        """
        rho = self.density(dm)
        parts, rows = self.potential_of(rho)
        energy = sum(parts.values(), rho.new_zeros(()))
        electrons = (rho[:, 0] * self.weight).sum()
        found = Contribution(energy, self.matrix(rows, dm.dtype), electrons, parts)
        return MeshBuild(parts, rho, rows, found)

    def density(self, dm: BlochMatrix) -> MeshRows:
        """Density variables of a density matrix."""
        return density_rows(self.grid, self.weights, dm, self.nvar)

    def potential_of(self, rho: MeshRows) -> tuple[dict[str, Scalar], MeshRows]:
        """Energies by name and the sum of all potentials of a density."""
        rows = torch.zeros_like(rho)
        parts = {}
        for potential in self.potentials:
            parts[potential.name], own = potential.energy_and_rows(rho)
            rows[:, : potential.nvar] += own
        return parts, rows

    def matrix(self, rows: MeshRows, dtype: torch.dtype) -> BlochMatrix:
        """Matrices of potentials on the grid, Eh."""
        return potential_matrix(self.grid, rows * self.weight, dtype)

    def energy_and_fock(self, at: Density) -> Contribution:
        """The sum of the energies and of their matrices, and each energy by its name."""
        return self.build(at.dm).contribution

    def response(self, at: Density, along: Density) -> BlochMatrix:
        """Change of the matrices."""
        rho, d = self.density(at.dm), self.density(along.dm)
        changes = [(p.nvar, p.response(rho, d)) for p in self.potentials]
        return self._matrix_of(rho, changes, at.dm.dtype)

    def second(self, at: Density, d1: Density, d2: Density) -> BlochMatrix:
        """Second derivative of the matrices along two changes."""
        rho, one, other = (self.density(some.dm) for some in (at, d1, d2))
        changes = [(p.nvar, p.second(rho, one, other)) for p in self.potentials]
        return self._matrix_of(rho, changes, at.dm.dtype)

    def _matrix_of(
        self, rho: MeshRows, changes: Sequence[tuple[int, Tensor | None]], dtype: torch.dtype
    ) -> BlochMatrix:
        rows = torch.zeros_like(rho)
        for nvar, change in changes:
            if change is not None:
                rows[:, :nvar] += change
        return self.matrix(rows, dtype)
