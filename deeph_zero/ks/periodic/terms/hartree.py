"""Classical repulsion of the electrons on the grid."""

from typing import final

from deeph_zero.ks.periodic.mesh import Mesh
from deeph_zero.ks.periodic.types import MeshRows, PotentialRows
from deeph_zero.types import Scalar


@final
class Hartree:
    """½ ∫ ρ v[ρ], with the mesh's Coulomb kernel."""

    name = "coulomb"
    nvar = 1

    def __init__(self, mesh: Mesh) -> None:
        """Keep the grid.

        Args:
            mesh: It has the kernel.
        """
        self.mesh = mesh

    def energy_and_rows(self, rho: MeshRows) -> tuple[Scalar, PotentialRows]:
        """The energy and the electrostatic potential of the electrons."""
        total = rho[:, 0].sum(0)
        v = self.mesh.coulomb(total)
        return 0.5 * self.mesh.weight * (total * v).sum(), v.expand(rho.shape[0], 1, -1)

    def response(self, rho: MeshRows, d: MeshRows) -> PotentialRows:
        """The electrostatic potential of ``d``."""
        return self.mesh.coulomb(d[:, 0].sum(0)).expand(rho.shape[0], 1, -1)

    def second(self, rho: MeshRows, d1: MeshRows, d2: MeshRows) -> None:
        """None: it is linear."""
        del rho, d1, d2
