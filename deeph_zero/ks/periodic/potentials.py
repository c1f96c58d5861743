"""Energies that are functionals of the density on a uniform grid, and their potentials."""

from collections.abc import Iterator
from typing import Protocol, TypeAlias, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks.periodic.mesh import Mesh
from deeph_zero.ks.periodic.types import MeshRows, MeshScalar, PotentialRows
from deeph_zero.ks.protocol import NVAR, Functional
from deeph_zero.types import Scalar

Quadrature: TypeAlias = float | Float[Tensor, " ngrids"]
"""Weight of every point, bohr³; one number on a uniform grid."""

POINTS = 32768
"""Points of one call of the functional."""


@runtime_checkable
class Potential(Protocol):
    """An energy E[ρ] per cell; rows are derivatives per volume, without quadrature weights."""

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


@final
class LocalPotential:
    """A fixed potential: the local part of pseudopotentials, or nuclei."""

    nvar = 1

    def __init__(self, name: str, mesh: Mesh, values: MeshScalar) -> None:
        """Keep the potential.

        Args:
            name: Of its energy.
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


@final
class Semilocal:
    """Exchange and correlation by quadrature."""

    name = "xc"

    def __init__(self, weight: Quadrature, functional: Functional) -> None:
        """Keep the functional.

        Args:
            weight: Quadrature weight of the points, bohr³.
            functional: Functional of density variables with a spin axis.
        """
        self.weight = weight
        self.functional = functional
        self.nvar = NVAR[functional.kind]

    def energy_and_rows(self, rho: MeshRows) -> tuple[Scalar, PotentialRows]:
        """E_xc and its derivative with respect to every row."""
        rows = torch.empty_like(rho[:, : self.nvar])
        energy = rho.new_zeros(())
        for at, piece in self._pieces(rho):
            f, first = self.functional.gradient(piece)
            energy += (f * self._weight(at)).sum()
            rows[..., at] = first
        return energy, rows

    def response(self, rho: MeshRows, d: MeshRows) -> PotentialRows:
        """f_xc times ``d``."""
        out = torch.empty_like(rho[:, : self.nvar])
        for (at, piece), (_, along) in zip(self._pieces(rho), self._pieces(d), strict=True):
            out[..., at] = self.functional.second(piece, along)
        return out

    def second(self, rho: MeshRows, d1: MeshRows, d2: MeshRows) -> PotentialRows:
        """g_xc times both directions."""
        out = torch.empty_like(rho[:, : self.nvar])
        parts = zip(self._pieces(rho), self._pieces(d1), self._pieces(d2), strict=True)
        for (at, piece), (_, one), (_, other) in parts:
            out[..., at] = self.functional.third(piece, one, other)
        return out

    def _weight(self, at: slice) -> Quadrature:
        return self.weight[at] if isinstance(self.weight, Tensor) else self.weight

    def _pieces(self, rho: MeshRows) -> Iterator[tuple[slice, Tensor]]:
        """The functional's argument, some points at a time."""
        for start in range(0, rho.shape[-1], POINTS):
            at = slice(start, start + POINTS)
            yield at, rho[:, : self.nvar, at].contiguous()
