"""Energy terms of a crystal: each has an energy, its matrix, and how the matrix responds.

With E the energy per cell, dE = Σ_k w_k Re tr(F_k dP_k).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor

from deeph_zero.ks.periodic.grid import BlochGrid, density_rows, potential_matrix
from deeph_zero.ks.periodic.mesh import Mesh
from deeph_zero.ks.periodic.potentials import Potential, Quadrature
from deeph_zero.ks.periodic.types import (
    BlochMatrix,
    BlochOperator,
    KWeights,
    MeshRows,
    weighted_trace,
)
from deeph_zero.types import Scalar


@runtime_checkable
class Term(Protocol):
    """One part of the energy."""

    name: str

    def energy_and_fock(self, dm: BlochMatrix) -> tuple[Scalar, BlochMatrix]:
        """E (Eh per cell) and F = dE/dP."""
        ...

    def response(self, dm: BlochMatrix, d: BlochMatrix) -> BlochMatrix:
        """Change of F along a Hermitian direction, linear in it."""
        ...

    def second(self, dm: BlochMatrix, d1: BlochMatrix, d2: BlochMatrix) -> BlochMatrix | None:
        """Second derivative of F along two directions; None where F is linear in P."""
        ...


@final
class FixedOperator:
    """Σ_k w_k tr(h_k P_k): kinetic energy and non-local pseudopotentials."""

    def __init__(self, name: str, operator: BlochOperator, weights: KWeights) -> None:
        """Keep the matrices.

        Args:
            name: Of the energy.
            operator: h_k, Eh.
            weights: w_k.
        """
        self.name = name
        self.operator = operator
        self.weights = weights

    def energy_and_fock(self, dm: BlochMatrix) -> tuple[Scalar, BlochMatrix]:
        """The energy and h."""
        energy = weighted_trace(self.weights, self.operator, dm)
        return energy, self.operator.to(dm.dtype).expand_as(dm)

    def response(self, dm: BlochMatrix, d: BlochMatrix) -> BlochMatrix:
        """Zero: the operator is fixed."""
        del dm
        return torch.zeros_like(d)

    def second(self, dm: BlochMatrix, d1: BlochMatrix, d2: BlochMatrix) -> None:
        """None: the operator is fixed."""
        del dm, d1, d2


@final
class Constant:
    """An energy of the geometry alone: nuclear (or core) charges by Ewald's sum."""

    def __init__(self, name: str, energy: float) -> None:
        """Keep the energy.

        Args:
            name: Of the energy.
            energy: Eh per cell.
        """
        self.name = name
        self.energy = energy

    def energy_and_fock(self, dm: BlochMatrix) -> tuple[Scalar, BlochMatrix]:
        """The constant and zero."""
        kind = torch.zeros((), dtype=torch.float64, device=dm.device)
        return kind + self.energy, torch.zeros_like(dm)

    def response(self, dm: BlochMatrix, d: BlochMatrix) -> BlochMatrix:
        """Zero."""
        del dm
        return torch.zeros_like(d)

    def second(self, dm: BlochMatrix, d1: BlochMatrix, d2: BlochMatrix) -> None:
        """None."""
        del dm, d1, d2


@dataclasses.dataclass(frozen=True)
class MeshBuild:
    """What one density gives on the grid.

    Attributes:
        parts: Energies (Eh per cell) by the potentials' names.
        rho: Density variables.
        rows: Sum of all potentials, one for each density variable, Eh and its like.
        fock: Their matrices, Eh.
    """

    parts: dict[str, Scalar]
    rho: MeshRows
    rows: MeshRows
    fock: BlochMatrix


@final
class MeshTerm:
    """Energies of the density on points: one pass to it, one back, for all of them."""

    name = "mesh"

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
        return MeshBuild(parts, rho, rows, self.matrix(rows, dm.dtype))

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

    def energy_and_fock(self, dm: BlochMatrix) -> tuple[Scalar, BlochMatrix]:
        """The sum of the energies and of their matrices."""
        built = self.build(dm)
        none = torch.zeros((), dtype=torch.float64, device=dm.device)
        return sum(built.parts.values(), none), built.fock

    def response(self, dm: BlochMatrix, d: BlochMatrix) -> BlochMatrix:
        """Change of the matrices along ``d``."""
        rho, along = self.density(dm), self.density(d)
        changes = [(p.nvar, p.response(rho, along)) for p in self.potentials]
        return self._matrix_of(rho, changes, d.dtype)

    def second(self, dm: BlochMatrix, d1: BlochMatrix, d2: BlochMatrix) -> BlochMatrix:
        """Second derivative of the matrices along two directions."""
        rho, one, other = self.density(dm), self.density(d1), self.density(d2)
        changes = [(p.nvar, p.second(rho, one, other)) for p in self.potentials]
        return self._matrix_of(rho, changes, dm.dtype)

    def _matrix_of(
        self, rho: MeshRows, changes: Sequence[tuple[int, Tensor | None]], dtype: torch.dtype
    ) -> BlochMatrix:
        rows = torch.zeros_like(rho)
        for nvar, change in changes:
            if change is not None:
                rows[:, :nvar] += change
        return self.matrix(rows, dtype)


@runtime_checkable
class StepCoulomb(Protocol):
    """Coulomb potentials of changes of the density, in whatever numbers hold them."""

    def __call__(self, d: BlochMatrix) -> MeshRows:
        """Coulomb potential of each spin channel by itself, [nspin, 1, numbers]."""
        ...

    def matrices(self, rows: MeshRows, dtype: torch.dtype) -> BlochMatrix:
        """Matrices of such numbers, Eh."""
        ...


@final
class CoulombOnMesh:
    """Coulomb potentials of changes of the density, on a mesh that may be a coarse one."""

    def __init__(
        self, grid: BlochGrid, weights: KWeights, mesh: Mesh, rho_guess: Callable[[], MeshRows]
    ) -> None:
        """Keep the grid.

        Args:
            grid: AO values.
            weights: w_k.
            mesh: The same points.
            rho_guess: Superposed free atoms on these points.
        """
        self.grid = grid
        self.weights = weights
        self.mesh = mesh
        self.rho_guess = rho_guess

    def __call__(self, d: BlochMatrix) -> MeshRows:
        """Electrostatic potential of every spin channel by itself.

        Args:
            d: Hermitian matrices.

        Returns:
            [nspin, 1, ngrids], Eh.
        """
        return self.mesh.coulomb(density_rows(self.grid, self.weights, d, 1))

    def beside_guess(self, dm: BlochMatrix) -> MeshRows:
        """Coulomb potential of what a density has more than the superposed free atoms.

        Args:
            dm: Density matrix.

        Returns:
            [nspin, 1, ngrids], Eh.
        """
        rho = density_rows(self.grid, self.weights, dm, 1)
        return self.mesh.coulomb(rho - self.rho_guess()[:, :1])

    def matrices(self, rows: MeshRows, dtype: torch.dtype) -> BlochMatrix:
        """Matrices of potentials, Eh."""
        return potential_matrix(self.grid, rows * self.mesh.weight, dtype)
