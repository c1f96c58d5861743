"""Atoms of a crystal and of its neighbouring cells that reach a place, as PySCF molecules."""

import dataclasses
import functools

import numpy as np
import torch
from jaxtyping import Float, Int
from pyscf import gto
from pyscf.pbc.gto import Cell
from torch import Tensor

from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.ao.extent import shell_extents
from deeph_zero.integrals.ao_shells import ao_basis

# ruff: noqa: SLF001  a molecule of image atoms is made by copying PySCF's tables


@dataclasses.dataclass(frozen=True, eq=False)
class ImageAtoms:
    """Some atoms of some cells.

    Attributes:
        atoms: Which atom of the home cell each is an image of.
        cells: The cell L that it is in.
        mole: They and their orbitals.
        sizes: AOs of each.
    """

    atoms: Int[np.ndarray, " n"]
    cells: Int[np.ndarray, "n 3"]
    mole: gto.Mole
    sizes: Int[np.ndarray, " n"]

    @functools.cached_property
    def nao(self) -> int:
        """AOs of all."""
        return int(self.sizes.sum())


class Images:
    """Finds the images of a cell's atoms."""

    def __init__(self, cell: Cell, negligible: float) -> None:
        """Work out how far the atoms reach.

        Args:
            cell: The crystal.
            negligible: Largest value of an orbital, and of its gradient, that does not count.
        """
        self._home = cell.to_mol()
        self._lattice = np.asarray(cell.lattice_vectors())
        self._coords = cell.atom_coords()
        basis = ao_basis(self._home)
        reach = shell_extents(basis, negligible).numpy()
        owner = self._home._bas[:, gto.ATOM_OF]
        self._shells = [np.flatnonzero(owner == a) for a in range(cell.natm)]
        self._counts = np.array([len(s) for s in self._shells])
        self._reach = np.array([reach[s].max(initial=0.0) for s in self._shells])
        offsets = self._home.aoslice_by_atom()
        self._sizes = offsets[:, 3] - offsets[:, 2]
        self._inverse = np.linalg.inv(self._lattice)
        self._heights = 1 / np.linalg.norm(self._inverse, axis=0)

    def near(self, centre: Float[np.ndarray, "3"], radius: float, more: float = 0.0) -> ImageAtoms:
        """Atoms whose orbitals reach a sphere.

        Args:
            centre: bohr.
            radius: Radius of the sphere, bohr.
            more: Added to the reach of every atom, bohr.

        Returns:
            The atoms, sorted by cell.
        """
        fractions = (centre - self._coords) @ self._inverse
        span = (self._reach.max() + more + radius) / self._heights
        low = np.floor(fractions.min(0) - span).astype(int)
        high = np.ceil(fractions.max(0) + span).astype(int)
        axes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
        cells = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        places = (cells @ self._lattice)[:, None] + self._coords
        distance = np.linalg.norm(places - centre, axis=-1)
        which, atoms = np.nonzero(distance < self._reach + more + radius)
        return self.some(atoms, cells[which])

    def some(self, atoms: Int[np.ndarray, " n"], cells: Int[np.ndarray, "n 3"]) -> ImageAtoms:
        """Given images.

        Args:
            atoms: Atoms of the home cell.
            cells: Their cells.

        Returns:
            They, in the same order.
        """
        home = self._home
        coords = self._coords[atoms] + cells @ self._lattice
        mole = home.copy(deep=False)
        start = len(home._env)
        mole._env = np.concatenate([home._env, coords.ravel()])
        mole._atm = home._atm[atoms].copy()
        mole._atm[:, gto.PTR_COORD] = start + 3 * np.arange(len(atoms))
        counts = self._counts[atoms]
        picked = [self._shells[a] for a in atoms]
        mole._bas = home._bas[np.concatenate(picked) if picked else []].copy()
        mole._bas[:, gto.ATOM_OF] = np.repeat(np.arange(len(atoms)), counts)
        return ImageAtoms(atoms, cells, mole, self._sizes[atoms])


class Gatherer:
    """Adds products of orbitals of image atoms to the blocks that they belong to."""

    def __init__(self, pattern: BlockPattern, images: ImageAtoms) -> None:
        """Find which products belong where.

        Args:
            pattern: The blocks.
            images: The atoms that the products' rows and columns belong to.
        """
        sizes = torch.from_numpy(images.sizes).long()
        atoms, cells = torch.from_numpy(images.atoms), torch.from_numpy(images.cells)
        n = len(sizes)
        one = torch.arange(n).repeat_interleave(n)
        other = torch.arange(n).repeat(n)
        block = pattern.find(torch.stack([atoms[one], atoms[other]], 1), cells[other] - cells[one])
        one, other, block = (x[block >= 0] for x in (one, other, block))
        first = sizes.cumsum(0) - sizes
        lengths = sizes[one] * sizes[other]
        inside = torch.arange(int(lengths.sum())) - (lengths.cumsum(0) - lengths).repeat_interleave(
            lengths
        )
        wide = sizes[other].repeat_interleave(lengths)
        row, column = inside // wide, inside % wide
        nao = images.nao
        row = row + first[one].repeat_interleave(lengths)
        column = column + first[other].repeat_interleave(lengths)
        self._take = row * nao + column
        self._put = pattern.offsets[:-1][block].repeat_interleave(lengths) + inside

    def add(self, total: Float[Tensor, " nel"], products: Float[Tensor, "nao nao"]) -> None:
        """Add the products of all pairs of orbitals to ``total``."""
        total.index_add_(0, self._put, products.reshape(-1)[self._take])
