"""Coulomb potentials of changes of a crystal's density, good enough to guide an SCF."""

from collections.abc import Callable
from typing import Protocol, final, runtime_checkable

import torch

from deeph_zero.ks.periodic.grid import BlochGrid, density_rows, potential_matrix
from deeph_zero.ks.periodic.mesh import Mesh
from deeph_zero.ks.periodic.types import BlochMatrix, KWeights, MeshRows


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
            mesh: The mesh of the grid.
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
