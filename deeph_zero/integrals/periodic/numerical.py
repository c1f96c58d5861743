"""Numerical atomic orbitals of a crystal: Bloch sums by their Fourier series."""

from collections.abc import Sequence
from typing import final

import numpy as np
import scipy.fft
import scipy.linalg
import torch
from jaxtyping import Complex, Float, Int

from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.integrals.periodic.radial import RadialFunction
from deeph_zero.integrals.periodic.separable import CHUNK, sphere_radius
from deeph_zero.ks.periodic.grid import BlochBlock, KGroup

_AT_ONCE = 8
"""Functions that are transformed to the grid together."""
_POINTS = 20_000
"""Grid points of a block."""


@final
class NumericalOrbitals:
    """Radial functions times real harmonics on atoms, PySCF's order inside shells."""

    def __init__(
        self,
        coords: Float[np.ndarray, "natm 3"],
        lattice: Float[np.ndarray, "3 3"],
        shells: Sequence[Sequence[RadialFunction]],
    ) -> None:
        """Nothing is computed yet.

        Args:
            coords: Positions of the atoms, bohr.
            lattice: Vectors in rows, bohr.
            shells: Radial functions of each atom; atoms of one kind share theirs.
        """
        self.coords, self.lattice = coords, lattice
        self.shells = [tuple(own) for own in shells]
        self.sizes = tuple(sum(2 * f.l + 1 for f in own) for own in shells)
        self.reciprocal = 2 * np.pi * np.linalg.inv(lattice).T
        self.volume = abs(float(np.linalg.det(lattice)))

    @property
    def nao(self) -> int:
        """Functions of one cell."""
        return sum(self.sizes)

    def transforms(
        self, vectors: Float[np.ndarray, "n 3"], kpt: Float[np.ndarray, " 3"]
    ) -> Complex[np.ndarray, "n nao"]:
        """∫ φ_k(r) exp(-i(k+G)·r) d³r.

        Args:
            vectors: G, 1/bohr.
            kpt: k, 1/bohr.

        Returns:
            One column for each function.
        """
        waves = vectors + kpt
        of_kind = {own: np.concatenate([f.at(waves) for f in own]) for own in set(self.shells)}
        columns = [
            of_kind[own] * np.exp(-1j * (waves @ place))
            for own, place in zip(self.shells, self.coords, strict=True)
        ]
        return np.concatenate(columns).T

    def waves(
        self, kpt: Float[np.ndarray, " 3"], radius: float
    ) -> tuple[Int[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
        """All G with |k+G| up to a radius.

        Args:
            kpt: 1/bohr.
            radius: 1/bohr.

        Returns:
            Miller indices, and G (1/bohr).
        """
        most = np.ceil(radius * np.linalg.norm(self.lattice, axis=1) / (2 * np.pi)).astype(int) + 1
        axes = [np.arange(-n, n + 1) for n in most]
        indices = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        vectors = indices @ self.reciprocal
        inside = ((vectors + kpt) ** 2).sum(1) <= radius**2
        return indices[inside], vectors[inside]

    def overlap_and_kinetic(
        self, kpoints: KPoints, radius: float
    ) -> tuple[Complex[np.ndarray, "nk nao nao"], Complex[np.ndarray, "nk nao nao"]]:
        """S(k) and T(k) by the sum over all waves up to a radius, and what is beyond on each atom.

        Waves that short are of the ends of the functions and of the region near a nucleus: between
        different atoms they cancel.

        Args:
            kpoints: Where.
            radius: 1/bohr.

        Returns:
            S, and T in Eh.
        """
        shape = (len(kpoints.scaled), self.nao, self.nao)
        overlap, kinetic = np.zeros(shape, dtype=complex), np.zeros(shape, dtype=complex)
        for k, kpt in enumerate(kpoints.scaled @ self.reciprocal):
            _, vectors = self.waves(kpt, radius)
            for start in range(0, len(vectors), CHUNK):
                some = vectors[start : start + CHUNK]
                values = self.transforms(some, kpt)
                left = values.conj().T / self.volume
                overlap[k] += left @ values
                energy = 0.5 * ((some + kpt) ** 2).sum(1)
                kinetic[k] += (left * energy) @ values
        beyond = {own: _beyond(own, radius) for own in set(self.shells)}
        parts = [beyond[own] for own in self.shells]
        overlap += scipy.linalg.block_diag(*(s for s, _ in parts))
        kinetic += scipy.linalg.block_diag(*(t for _, t in parts))
        return overlap, kinetic

    def missing_norm(self, radius: float) -> float:
        """Largest part of a function's norm in waves beyond a radius (1/bohr)."""
        q = np.linspace(0.0, radius, 2001)
        functions = {f for own in self.shells for f in own}
        inside = [2 / np.pi * np.trapezoid((q * f.table(radius)(q)) ** 2, q) for f in functions]
        return max(1.0 - float(part) for part in inside)


def _beyond(shells: tuple[RadialFunction, ...], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Parts of S and T of one atom's functions in waves beyond a radius."""
    q = np.linspace(0.0, radius, 2001)
    waves = [q * f.table(radius)(q) for f in shells]
    blocks: list[list[list[np.ndarray]]] = [[], []]
    for i, one in enumerate(shells):
        rows: list[list[np.ndarray]] = [[], []]
        for j, other in enumerate(shells):
            shape = np.eye(2 * one.l + 1, 2 * other.l + 1) * (one.l == other.l)
            both = waves[i] * waves[j] * (2 / np.pi)
            whole = one.products(other) if one.l == other.l else (0.0, 0.0)
            inside = (np.trapezoid(both, q), np.trapezoid(0.5 * q**2 * both, q))
            for n in (0, 1):
                rows[n].append(shape * (whole[n] - float(inside[n])))
        for n in (0, 1):
            blocks[n].append(rows[n])
    return np.block(blocks[0]), np.block(blocks[1])


@final
class NumericalValues:
    """Values of numerical orbitals at one k-point on the uniform grid; a ``BlochGrid``."""

    def __init__(
        self, orbitals: NumericalOrbitals, scaled: Float[np.ndarray, " 3"], mesh: tuple[int, ...]
    ) -> None:
        """Make the values, 16 bytes for each function and point.

        Args:
            orbitals: The functions.
            scaled: k, fractions of the reciprocal lattice vectors.
            mesh: Points of the grid.
        """
        self.nao, self.nk = orbitals.nao, 1
        self.ngrids = int(np.prod(mesh))
        self.n_blocks = -(-self.ngrids // _POINTS)
        kpt = scaled @ orbitals.reciprocal
        radius = sphere_radius(orbitals.reciprocal, mesh)
        indices, vectors = orbitals.waves(kpt, radius)
        places = tuple((indices % np.array(mesh)).T)
        values = orbitals.transforms(vectors, kpt).T / orbitals.volume
        self._values = np.empty((self.nao, self.ngrids), dtype=complex)
        axes = [np.arange(n) / n for n in mesh]
        turns = [np.exp(2j * np.pi * k * x) for k, x in zip(scaled, axes, strict=True)]
        phase = (turns[0][:, None, None] * turns[1][:, None] * turns[2]).reshape(-1)
        for start in range(0, self.nao, _AT_ONCE):
            some = values[start : start + _AT_ONCE]
            box = np.zeros((len(some), *mesh), dtype=complex)
            box[(slice(None), *places)] = some
            field = scipy.fft.ifftn(box, axes=(1, 2, 3), norm="forward", overwrite_x=True)
            self._values[start : start + len(some)] = field.reshape(len(some), -1) * phase

    def block(self, b: int) -> BlochBlock:
        """Block ``b`` of the points."""
        points = slice(b * _POINTS, min((b + 1) * _POINTS, self.ngrids))
        ao = torch.from_numpy(np.ascontiguousarray(self._values[:, points]))
        return BlochBlock(points, (KGroup(torch.zeros(1, dtype=torch.long), ao[None, None]),))
