"""What an energy on a grid is: a functional of the density there, and its potentials."""

from typing import Protocol, TypeAlias, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks.periodic.types import MeshRows, PotentialRows
from deeph_zero.types import Scalar

Quadrature: TypeAlias = float | Float[Tensor, " ngrids"]
"""Weight of every point, bohr³; one number on a uniform grid."""


@runtime_checkable
class Potential(Protocol):
    """An energy E[ρ] per cell; rows are derivatives per volume, without quadrature weights.

    :class:`~deeph_zero.ks.periodic.terms.on_mesh.MeshTerm` makes a term of some of them.
    """

    name: str
    nvar: int

    def energy_and_rows(self, rho: MeshRows) -> tuple[Scalar, PotentialRows]:
        """E (Eh) and its derivative with respect to the first ``nvar`` rows of ``rho``."""
        ...

    def response(self, rho: MeshRows, d: MeshRows) -> PotentialRows | None:
        """Change of the rows along ``d``, linear in it; None where there is none."""
        ...

    def second(self, rho: MeshRows, d1: MeshRows, d2: MeshRows) -> PotentialRows | None:
        """Second derivative of the rows along two directions; None where there is none."""
        ...
