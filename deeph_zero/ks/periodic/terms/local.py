"""A fixed potential on the grid: the local part of pseudopotentials, or nuclei."""

from typing import final

from deeph_zero.ks.periodic.mesh import Mesh
from deeph_zero.ks.periodic.types import MeshRows, MeshScalar, PotentialRows
from deeph_zero.types import Scalar


@final
class LocalPotential:
    """∫ v ρ."""

    nvar = 1

    def __init__(self, name: str, mesh: Mesh, values: MeshScalar) -> None:
        """Keep the potential.

        Args:
            name: Name of its energy.
            mesh: The grid.
            values: Eh, at the grid's points.
        """
        self.name = name
        self.mesh = mesh
        self.values = values

    def energy_and_rows(self, rho: MeshRows) -> tuple[Scalar, PotentialRows]:
        """∫ v ρ and v."""
        energy = self.mesh.weight * (rho[:, 0].sum(0) * self.values).sum()
        return energy, self.values.expand(rho.shape[0], 1, -1)

    def response(self, rho: MeshRows, d: MeshRows) -> None:
        """None: the potential is fixed."""
        del rho, d

    def second(self, rho: MeshRows, d1: MeshRows, d2: MeshRows) -> None:
        """None: the potential is fixed."""
        del rho, d1, d2
