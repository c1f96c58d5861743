"""Atoms of a crystal and of its neighbouring cells that reach a place, and their orbitals there."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from pyscf import gto
from pyscf.pbc.gto import Cell
from scipy.spatial import KDTree
from torch import Tensor

from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.ao.extent import shell_extents
from deeph_zero.ao.values import AOBasis, ao_rows, ao_rows_along
from deeph_zero.integrals.ao_shells import ao_shells

_SPACING = 0.1
"""Step of the distances at which overlaps are looked at, bohr."""
PIECE = 6000
"""Points times atoms that are evaluated at once: what a processor's cache holds."""

# ruff: noqa: SLF001  a molecule of image atoms is made by copying PySCF's tables


@dataclasses.dataclass(frozen=True, eq=False)
class ImageAtoms:
    """Some atoms of some cells.

    Attributes:
        source: What found them.
        atoms: Which atom of the home cell each is an image of.
        cells: The cell L that it is in.
        coords: Their places, bohr.
    """

    source: "Images" = dataclasses.field(repr=False)
    atoms: Int[np.ndarray, " n"]
    cells: Int[np.ndarray, "n 3"]
    coords: Float[np.ndarray, "n 3"]

    @functools.cached_property
    def sizes(self) -> Int[np.ndarray, " n"]:
        """AOs of each."""
        return self.source.sizes[self.atoms]

    @functools.cached_property
    def nao(self) -> int:
        """AOs of all."""
        return int(self.sizes.sum())

    @functools.cached_property
    def mole(self) -> gto.Mole:
        """They and their orbitals."""
        return self.source.mole(self)

    def take(self, rows: np.ndarray) -> "ImageAtoms":
        """Some of them."""
        return ImageAtoms(self.source, self.atoms[rows], self.cells[rows], self.coords[rows])

    def orbitals(
        self, points: Float[np.ndarray, "npoints 3"], deriv: int
    ) -> Float[Tensor, "ncomp nao npoints"]:
        """Values, and gradients, of their orbitals; atoms of one kind must follow each other.

        Args:
            points: bohr.
            deriv: 1 with gradients, 0 without.

        Returns:
            1 or 4 components.
        """
        out = torch.empty((1, 4)[deriv], self.nao, len(points), dtype=torch.float64)
        origin = torch.zeros(1, 3, dtype=torch.float64)
        for basis, own, count in self._pieces(len(points)):
            rows = ao_rows(basis, origin, self._from(points, own), deriv)
            _by_atom(out[:, count], len(own)).copy_(_by_point(rows, len(own)))
        return out

    def orbitals_along(
        self, points: Float[np.ndarray, "npoints 3"], rows: Float[Tensor, "n 4 npoints"]
    ) -> tuple[Float[Tensor, "nao npoints"], Float[Tensor, "n nao npoints"]]:
        """Values φ of their orbitals, and sums v φ + w·∇φ; as :meth:`orbitals`.

        Args:
            points: bohr.
            rows: v, and w of three components, of every sum.

        Returns:
            φ and the sums.
        """
        values = torch.empty(1, self.nao, len(points), dtype=torch.float64)
        sums = values.new_empty(len(rows), *values.shape[1:])
        origin = torch.zeros(3, dtype=torch.float64)
        for basis, own, count in self._pieces(len(points)):
            many = rows.repeat(1, 1, len(own))
            found = ao_rows_along(basis, origin, self._from(points, own), many)
            _by_atom(values[:, count], len(own)).copy_(_by_point(found[0][None], len(own)))
            _by_atom(sums[:, count], len(own)).copy_(_by_point(found[1], len(own)))
        return values[0], sums

    def _from(self, points: np.ndarray, own: np.ndarray) -> Tensor:
        """All points from each of some atoms, one behind the other."""
        return torch.from_numpy((points[None] - self.coords[own, None]).reshape(-1, 3))

    def _pieces(self, npoints: int) -> Iterator[tuple[AOBasis, np.ndarray, slice]]:
        """Atoms of one kind that are evaluated at once, and their AOs among all."""
        kinds = self.source.kinds[self.atoms]
        at = 0
        for kind, basis in enumerate(self.source.bases):
            own = np.flatnonzero(kinds == kind)
            if not len(own) or not basis.groups:
                continue
            for some in np.array_split(own, -(-len(own) * npoints // PIECE)):
                yield basis, some, slice(at, at + basis.nao * len(some))
                at += basis.nao * len(some)


def _by_atom(rows: Tensor, count: int) -> Tensor:
    return rows.unflatten(1, (count, -1))


def _by_point(rows: Tensor, count: int) -> Tensor:
    return rows.unflatten(-1, (count, -1)).transpose(1, 2)


class Images:
    """Finds the images of a cell's atoms.

    Attributes:
        sizes: AOs of every atom of the cell.
        kinds: A number for every atom; those with one number have the same orbitals.
        bases: Orbitals of an atom of each kind, at the origin.
    """

    def __init__(self, cell: Cell, negligible: float) -> None:
        """Work out how far the atoms reach.

        Args:
            cell: The crystal.
            negligible: Largest value of an orbital, and of its gradient, that does not count.
        """
        self._home = cell.to_mol()
        self._lattice = np.asarray(cell.lattice_vectors())
        self._coords = cell.atom_coords()
        owner = self._home._bas[:, gto.ATOM_OF]
        self._shells = [np.flatnonzero(owner == a) for a in range(cell.natm)]
        self._counts = np.array([len(s) for s in self._shells])
        offsets = self._home.aoslice_by_atom()
        self.sizes = offsets[:, 3] - offsets[:, 2]
        symbols = [cell.atom_symbol(a) for a in range(cell.natm)]
        names = sorted(set(symbols))
        self.kinds = np.array([names.index(s) for s in symbols])
        self.bases = [self._basis_of(symbols.index(name)) for name in names]
        reaches = [_reach(basis, negligible) for basis in self.bases]
        self.reach = np.array(reaches)[self.kinds]
        self._inverse = np.linalg.inv(self._lattice)
        self._heights = 1 / np.linalg.norm(self._inverse, axis=0)
        self._known: tuple[float, KDTree, np.ndarray, np.ndarray] | None = None

    def _basis_of(self, atom: int) -> AOBasis:
        part = self._home.copy(deep=False)
        part._bas = self._home._bas[self._shells[atom]]
        shells = [dataclasses.replace(shell, atom=0) for shell in ao_shells(part)]
        return AOBasis.from_shells(shells, cart=bool(self._home.cart))

    def near(
        self,
        centre: Float[np.ndarray, "3"],
        radius: float,
        more: float = 0.0,
        reach: Float[np.ndarray, " natm"] | None = None,
    ) -> ImageAtoms:
        """Atoms that reach a sphere.

        Args:
            centre: bohr, in or about the home cell.
            radius: Radius of the sphere, bohr.
            more: Added to the reach of every atom, bohr.
            reach: Reach of every atom, bohr; None: that of its orbitals.

        Returns:
            The atoms, those of one kind behind each other, sorted by cell.
        """
        own = (self.reach if reach is None else reach) + more + radius
        tree, atoms, cells = self._within(centre, float(own.max(initial=0.0)))
        found = np.sort(np.array(tree.query_ball_point(centre, own.max(initial=0.0)), dtype=int))
        distance = np.linalg.norm(tree.data[found] - centre, axis=1)
        found = found[distance < own[atoms[found]]]
        found = found[np.argsort(self.kinds[atoms[found]], kind="stable")]
        return self.some(atoms[found], cells[found])

    def near_box(self, low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]) -> ImageAtoms:
        """Atoms that reach a box.

        Args:
            low: Its least coordinates, bohr; in or about the home cell.
            high: Its largest.

        Returns:
            As :meth:`near`.
        """
        found = self.near(0.5 * (low + high), 0.5 * float(np.linalg.norm(high - low)))
        outside = np.maximum(np.maximum(low - found.coords, found.coords - high), 0)
        return found.take(np.linalg.norm(outside, axis=1) < self.reach[found.atoms])

    def _within(self, centre: np.ndarray, reach: float) -> tuple[KDTree, np.ndarray, np.ndarray]:
        """All images that come near the home cell; made once for the largest reach."""
        place = centre @ self._inverse
        outside = np.maximum(np.maximum(-place, place - 1), 0) @ np.abs(self._lattice).sum(1)
        reach += float(outside)
        if self._known is None or self._known[0] < reach:
            fractions = self._coords @ self._inverse
            span = reach / self._heights
            low = np.ceil(-span - fractions.max(0)).astype(int)
            high = np.floor(1 + span - fractions.min(0)).astype(int)
            axes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
            cells = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
            scaled = cells[:, None] + fractions
            near = ((scaled >= -span) & (scaled <= 1 + span)).all(-1)
            which, atoms = np.nonzero(near)
            tree = KDTree(self._coords[atoms] + cells[which] @ self._lattice)
            self._known = reach, tree, atoms, cells[which]
        return self._known[1:]

    def some(self, atoms: Int[np.ndarray, " n"], cells: Int[np.ndarray, "n 3"]) -> ImageAtoms:
        """Given images.

        Args:
            atoms: Atoms of the home cell.
            cells: Their cells.

        Returns:
            They, in the same order.
        """
        return ImageAtoms(self, atoms, cells, self._coords[atoms] + cells @ self._lattice)

    def overlap_reach(self, negligible: float) -> Float[np.ndarray, "nkind nkind"]:
        """Distances from which on no overlap of two kinds of atoms reaches a value.

        Args:
            negligible: The value.

        Returns:
            bohr.
        """
        first = [int(np.flatnonzero(self.kinds == k)[0]) for k in range(len(self.bases))]
        distances = np.arange(_SPACING, 2 * float(self.reach.max(initial=0.0)) + 20, _SPACING)
        out = np.zeros((len(first), len(first)))
        for (i, one), (j, other) in itertools.product(enumerate(first), repeat=2):
            row = np.full(len(distances), other)
            away = distances[:, None] * np.array([0.6, 0.48, 0.64])
            there = ImageAtoms(self, row, np.zeros((len(row), 3), dtype=int), away)
            home = ImageAtoms(self, np.array([one]), np.zeros((1, 3), dtype=int), 0 * away[:1])
            if not self.sizes[one] or not self.sizes[other]:
                continue
            found = np.abs(gto.intor_cross("int1e_ovlp_sph", home.mole, there.mole)).max(0)
            large = found.reshape(len(row), -1).max(1) >= negligible
            out[i, j] = distances[large].max(initial=0.0) + _SPACING
        return np.maximum(out, out.T)

    def mole(self, images: ImageAtoms) -> gto.Mole:
        """Images as a molecule of PySCF's.

        Args:
            images: The atoms.

        Returns:
            The molecule.
        """
        home, atoms = self._home, images.atoms
        mole = home.copy(deep=False)
        start = len(home._env)
        mole._env = np.concatenate([home._env, images.coords.ravel()])
        mole._atm = home._atm[atoms].copy()
        mole._atm[:, gto.PTR_COORD] = start + 3 * np.arange(len(atoms))
        picked = [self._shells[a] for a in atoms]
        mole._bas = home._bas[np.concatenate(picked) if picked else []].copy()
        mole._bas[:, gto.ATOM_OF] = np.repeat(np.arange(len(atoms)), self._counts[atoms])
        return mole


def _reach(basis: AOBasis, negligible: float) -> float:
    return float(shell_extents(basis, negligible, 1).max()) if basis.groups else 0.0


class Gatherer:
    """Adds products of orbitals of image atoms to the blocks that they belong to."""

    def __init__(self, pattern: BlockPattern, images: ImageAtoms) -> None:
        """Find which products belong where.

        Args:
            pattern: The blocks.
            images: The atoms that the products' rows and columns belong to.
        """
        atoms, cells = torch.from_numpy(images.atoms), torch.from_numpy(images.cells)
        n = len(atoms)
        one, other = torch.arange(n).repeat_interleave(n), torch.arange(n).repeat(n)
        pairs, apart = torch.stack([atoms[one], atoms[other]], 1), cells[other] - cells[one]
        block = pattern.find(pairs, apart).view(n, n)
        runs = _runs(images.sizes)
        self._parts = [_part(pattern, block, rows, columns) for rows in runs for columns in runs]

    def add(self, total: Float[Tensor, " nel"], products: Float[Tensor, "nao nao"]) -> None:
        """Add the products of all pairs of orbitals to ``total``."""
        for rows, columns, keep, put in self._parts:
            own = products[rows.aos, columns.aos]
            own = own.view(rows.count, rows.size, columns.count, columns.size)
            own = own.transpose(1, 2).reshape(rows.count * columns.count, -1)
            total.index_add_(0, put, own[keep].flatten())


@dataclasses.dataclass(frozen=True)
class _Run:
    """Atoms of one size behind each other."""

    first: int
    count: int
    aos: slice

    @property
    def size(self) -> int:
        return (self.aos.stop - self.aos.start) // self.count


def _runs(sizes: np.ndarray) -> list[_Run]:
    ends = np.append(np.flatnonzero(np.diff(sizes)) + 1, len(sizes)) if len(sizes) else []
    starts, at, runs = 0, 0, []
    for end in ends:
        width = int(sizes[starts:end].sum())
        if width:
            runs.append(_Run(int(starts), int(end - starts), slice(at, at + width)))
        starts, at = end, at + width
    return runs


def _part(
    pattern: BlockPattern, block: Tensor, rows: _Run, columns: _Run
) -> tuple[_Run, _Run, Tensor, Tensor]:
    """Pairs of two runs that have a block, and where the elements of their products go."""
    own = block[rows.first : rows.first + rows.count, columns.first : columns.first + columns.count]
    keep = (own.flatten() >= 0).nonzero()[:, 0]
    inside = torch.arange(rows.size * columns.size)
    put = pattern.offsets[:-1][own.flatten()[keep]][:, None] + inside
    return rows, columns, keep, put.flatten()
