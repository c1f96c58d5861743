"""A given local potential, kinetic energy and non-local pseudopotentials in an AO basis.

H_ij(k) = ⟨i|-∇²/2 + V_nl|j⟩ + Σ_points φ_i* V φ_j Ω/N, the same arithmetic as the crystal layer's.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Complex, Float
from pyscf.pbc.df import ft_ao
from pyscf.pbc.gto import Cell

from deeph_zero.integrals.mole import shell_ls
from deeph_zero.integrals.periodic.bloch_values import BlochValues
from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.integrals.periodic.numerical import NumericalOrbitals, NumericalValues
from deeph_zero.integrals.periodic.pseudopotential import nonlocal_potential
from deeph_zero.integrals.periodic.radial import RadialFunction
from deeph_zero.integrals.periodic.separable import (
    AtomsWithProjectors,
    separable_matrix,
    sphere_radius,
    within_sphere,
)
from deeph_zero.integrals.periodic.system import overlap
from deeph_zero.ks.periodic.grid import BlochGrid, potential_matrix
from deeph_zero.ks.periodic.types import BlochMatrix, BlochOperator

_MEMORY_MB = 500.0
_TAIL = 1e-6
"""Overlap of the most diffuse Gaussians beyond the reach of two atoms."""


@dataclasses.dataclass(frozen=True, eq=False)
class KleinmanBylander:
    """Projectors given by radial functions; implements ``separable.Projectors``.

    Attributes:
        functions: β_i.
        strengths: D for every i and m, Eh.
    """

    functions: tuple[RadialFunction, ...]
    strengths: Float[np.ndarray, "n n"]

    @classmethod
    def of(
        cls, functions: Sequence[RadialFunction], strengths: Float[np.ndarray, "n n"]
    ) -> "KleinmanBylander":
        """Spread D_ij over m.

        Args:
            functions: β_i.
            strengths: D_ij, Eh; zero between different l.

        Returns:
            The projectors.
        """
        sizes = [2 * f.l + 1 for f in functions]
        rows = [
            np.concatenate(
                [
                    strengths[i, j] * np.eye(n) if n == m else np.zeros((n, m))
                    for j, m in enumerate(sizes)
                ],
                1,
            )
            for i, n in enumerate(sizes)
        ]
        return cls(tuple(functions), np.concatenate(rows) if rows else np.zeros((0, 0)))

    def at(self, vectors: Float[np.ndarray, "n 3"]) -> Complex[np.ndarray, "count n"]:
        """Transforms of all β at reciprocal vectors."""
        rows = [f.at(vectors) for f in self.functions]
        return np.concatenate(rows) if rows else np.zeros((0, len(vectors)), dtype=complex)


@runtime_checkable
class Orbitals(Protocol):
    """A basis of a crystal, and all of the operator but the local potential in it.

    Attributes:
        shells: Angular momentum of every shell of every atom.
    """

    shells: tuple[tuple[int, ...], ...]

    def overlap_and_fixed(self, kpoints: KPoints) -> tuple[BlochOperator, BlochOperator]:
        """S, and kinetic energy with the non-local potential (Eh), complex."""
        ...

    def grids(self, kpoints: KPoints) -> Sequence[BlochGrid]:
        """Values on the uniform grid, of all k-points in order, in one or several parts."""
        ...

    def reach(self) -> Float[np.ndarray, "natm natm"]:
        """Distances beyond which two atoms' functions have nothing in common, bohr."""
        ...


@final
class GaussianOrbitals:
    """The basis of a PySCF cell, whose own pseudopotentials (GTH) act beside given projectors."""

    def __init__(self, cell: Cell, mesh: tuple[int, int, int], extra: AtomsWithProjectors) -> None:
        """Nothing is computed yet.

        Args:
            cell: Built; its pseudopotentials are those of the elements that have GTH's.
            mesh: Points of the grid.
            extra: Projectors of the other atoms.
        """
        self._cell, self._mesh, self._extra = cell, mesh, extra
        self.shells = shell_ls(cell)

    def reach(self) -> Float[np.ndarray, "natm natm"]:
        """By the smallest exponents: exp(-ab/(a+b) d²) is small."""
        cell = self._cell
        smallest = np.array(
            [
                min(float(cell.bas_exp(b).min()) for b in cell.atom_shell_ids(a))
                for a in range(cell.natm)
            ]
        )
        joint = smallest[:, None] * smallest / (smallest[:, None] + smallest)
        return np.sqrt(-np.log(_TAIL) / joint)

    def overlap_and_fixed(self, kpoints: KPoints) -> tuple[BlochOperator, BlochOperator]:
        """As the crystal layer computes them."""
        cell, kpts = self._cell, kpoints.absolute(self._cell)
        ovlp = overlap(cell, kpoints, "cpu").to(torch.complex128)
        fixed = np.asarray(cell.pbc_intor("int1e_kin", hermi=1, kpts=kpts)).astype(complex)
        fixed += nonlocal_potential(cell, self._mesh, kpoints)
        if self._extra:
            for k, kpt in enumerate(kpts):
                fixed[k] += self._projected(kpt)
        return ovlp, torch.from_numpy(fixed)

    def _projected(self, kpt: np.ndarray) -> np.ndarray:
        cell = self._cell

        def transforms(some: np.ndarray, k: np.ndarray) -> np.ndarray:
            return ft_ao.ft_ao(cell, some, kpt=k)

        reciprocal = np.asarray(cell.reciprocal_vectors())
        vectors = within_sphere(cell.get_Gv(self._mesh), kpt, reciprocal, self._mesh)
        return separable_matrix(transforms, vectors, kpt, cell.vol, self._extra)

    def grids(self, kpoints: KPoints) -> Sequence[BlochGrid]:
        """One part, made block by block of points."""
        points = self._cell.get_uniform_grids(self._mesh)
        return [BlochValues(self._cell, kpoints, points, deriv=0, memory_mb=_MEMORY_MB)]


@final
class OrbitalsOnMesh:
    """Numerical orbitals with the projectors of all atoms."""

    def __init__(
        self,
        orbitals: NumericalOrbitals,
        mesh: tuple[int, int, int],
        projectors: AtomsWithProjectors,
    ) -> None:
        """Nothing is computed yet.

        Args:
            orbitals: The functions.
            mesh: Points of the grid.
            projectors: Projectors of the atoms.
        """
        self._orbitals, self._mesh, self._projectors = orbitals, mesh, projectors
        self.radius = sphere_radius(orbitals.reciprocal, mesh)
        self.shells = tuple(tuple(f.l for f in own) for own in orbitals.shells)

    def reach(self) -> Float[np.ndarray, "natm natm"]:
        """By the ends of the functions."""
        ends = np.array([max(f.reach for f in own) for own in self._orbitals.shells])
        return ends[:, None] + ends

    def overlap_and_fixed(self, kpoints: KPoints) -> tuple[BlochOperator, BlochOperator]:
        """Sums over the waves that the grid has."""
        own = self._orbitals
        ovlp, fixed = own.overlap_and_kinetic(kpoints, self.radius)
        for k, kpt in enumerate(kpoints.scaled @ own.reciprocal):
            _, vectors = own.waves(kpt, self.radius)
            fixed[k] += separable_matrix(own.transforms, vectors, kpt, own.volume, self._projectors)
        return torch.from_numpy(ovlp), torch.from_numpy(fixed)

    def missing_norm(self) -> float:
        """Largest part of a function's norm in waves that the grid has no room for."""
        return self._orbitals.missing_norm(self.radius)

    def grids(self, kpoints: KPoints) -> Sequence[BlochGrid]:
        """A part for each k-point, made when it is asked for."""
        return _OneByOne(self._orbitals, kpoints, self._mesh)


class _OneByOne(Sequence[BlochGrid]):
    """Values at one k-point after the other, never two at once."""

    def __init__(
        self, orbitals: NumericalOrbitals, kpoints: KPoints, mesh: tuple[int, int, int]
    ) -> None:
        self._orbitals, self._kpoints, self._mesh = orbitals, kpoints, mesh

    def __len__(self) -> int:
        return len(self._kpoints.scaled)

    def __getitem__(self, index: int) -> BlochGrid:  # pyright: ignore[reportIncompatibleMethodOverride]
        if index >= len(self):
            raise IndexError(index)
        return NumericalValues(self._orbitals, self._kpoints.scaled[index], self._mesh)


def projected(
    orbitals: Orbitals,
    values: Float[np.ndarray, "nspin ngrids"],
    volume: float,
    kpoints: KPoints,
) -> tuple[BlochMatrix, BlochOperator]:
    """The AO Hamiltonian of a local potential.

    Args:
        orbitals: The basis with kinetic energy and non-local potential.
        values: Local potential on the basis' grid, Eh.
        volume: Volume of the cell, bohr³.
        kpoints: Where.

    Returns:
        H [nspin, nk, nao, nao] (Eh) and S, complex and Hermitian.
    """
    ovlp, fixed = orbitals.overlap_and_fixed(kpoints)
    rows = torch.from_numpy(np.ascontiguousarray(values)).unsqueeze(1)
    rows = rows * (volume / values.shape[-1])
    parts = [potential_matrix(grid, rows, torch.complex128) for grid in orbitals.grids(kpoints)]
    fock = torch.cat(parts, 1) + fixed
    return 0.5 * (fock + fock.mH), 0.5 * (ovlp + ovlp.mH)


def grid_overlap_error(orbitals: Orbitals, volume: float, ngrids: int, kpoints: KPoints) -> float:
    """Largest difference between the overlap on the grid and the exact one.

    Args:
        orbitals: The basis.
        volume: Volume of the cell, bohr³.
        ngrids: Points of the grid.
        kpoints: Where; one is enough.

    Returns:
        The largest error of the quadrature, on the scale of the functions' norm, which is 1.
    """
    ovlp, _ = orbitals.overlap_and_fixed(kpoints)
    rows = torch.full((1, 1, ngrids), volume / ngrids, dtype=torch.float64)
    parts = [potential_matrix(grid, rows, torch.complex128) for grid in orbitals.grids(kpoints)]
    return float((torch.cat(parts, 1)[0] - ovlp).abs().max())


def fourier_resampled(
    values: Float[np.ndarray, "nspin n1 n2 n3"], shape: Sequence[int]
) -> Float[np.ndarray, "nspin ngrids"]:
    """A field on another grid of the same cell, by its Fourier series.

    Args:
        values: On the points of its own grid.
        shape: Points along each axis; waves that a coarser grid cannot hold are left out.

    Returns:
        Real; the same values where the grid is the same.
    """
    for axis, target in enumerate(shape, 1):
        n = values.shape[axis]
        if n == target:
            continue
        spectrum = np.moveaxis(np.fft.rfft(values, axis=axis), axis, -1) / n
        if n % 2 == 0 and target > n:
            spectrum[..., -1] *= 0.5  # the wave at both ends of an even grid is shared by them
        kept = np.zeros((*spectrum.shape[:-1], target // 2 + 1), dtype=complex)
        most = min(spectrum.shape[-1], kept.shape[-1])
        kept[..., :most] = spectrum[..., :most]
        if target % 2 == 0 and target < n:
            kept[..., -1] = 2 * np.real(kept[..., -1])
        values = np.moveaxis(np.fft.irfft(kept * target, n=target, axis=-1), -1, axis)
    return np.ascontiguousarray(values).reshape(len(values), -1)
