"""Matrices of a crystal as blocks (i, j, R), exact and without k-points.

⟨μ 0| A |ν R⟩ of an operator with the crystal's period is a sum over places g of one cell, points of
the grid or projectors, of products of orbitals of all cells there:

    A(μ, ν, R) = Σ_L Σ_g φ_μ(g - L) A_g φ_ν(g - L - R).

Each step multiplies the orbitals that reach some places with themselves and adds what belongs to
the same (i, j, R). Nothing is folded, so that blocks do not depend on a mesh of k-points, and the
cost is linear in atoms.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from pyscf import gto
from pyscf.pbc.gto import Cell
from pyscf.pbc.gto.pseudo import pp_int
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.image_atoms import Gatherer, ImageAtoms, Images
from deeph_zero.ks.periodic.types import MeshRows

# ruff: noqa: SLF001  pseudopotentials are read where PySCF keeps them

EDGE = 2.5
"""Longest edge of a box of points, bohr."""
POINTS = 2000
"""About as many points has a box at most."""
NEGLIGIBLE = 1e-8
"""Orbitals below it are left out, unless the caller says otherwise."""
_POWERS = ("int1e_ovlp", "int1e_r2_origi", "int1e_r4_origi")
"""Integrals with the first, second and third projector of a channel."""


class RealSpaceMatrices:
    """Blocks of one crystal's matrices, on given keys."""

    def __init__(
        self,
        cell: Cell,
        mesh: tuple[int, int, int],
        pattern: BlockPattern,
        negligible: float = NEGLIGIBLE,
    ) -> None:
        """Nothing is computed yet.

        Args:
            cell: The crystal, with GTH pseudopotentials.
            mesh: Points of the uniform grid that potentials are given on.
            pattern: Keys; the cell's atoms and AOs, and (j, i, -R) beside every (i, j, R).
            negligible: Orbitals that are smaller everywhere on a box of points are left out there.

        Raises:
            InputError: If the cell has effective core potentials.
        """
        if len(cell._ecpbas):
            raise InputError(
                "expected GTH pseudopotentials, got effective core potentials; choose a GTH basis "
                "and pseudopotential"
            )
        self.cell = cell
        self.mesh = mesh
        self.pattern = pattern
        self.images = Images(cell, negligible)

    def overlap(self) -> BlockMatrix:
        """S."""
        return self._two_centre("int1e_ovlp_sph")

    def kinetic(self) -> BlockMatrix:
        """T, Eh."""
        return self._two_centre("int1e_kin_sph")

    def fixed_operator(self) -> BlockMatrix:
        """T + V_nl, Eh: what no density changes."""
        apart = self.nonlocal_potential()
        return apart.with_values(apart.values + self.kinetic().values)

    def nonlocal_potential(self) -> BlockMatrix:
        """Separable parts of the pseudopotentials by their Gaussian integrals.

        Returns:
            Eh. That of the layer stops its sum over reciprocal vectors where the mesh does, and
            differs by what the mesh misses.

        References:
            C. Hartwigsen, S. Goedecker, J. Hutter, Phys. Rev. B 58, 3641 (1998), eqs. 2-8.
        """
        total = torch.zeros(self.pattern.nel, dtype=torch.float64)
        if not self.cell.pseudo:
            return BlockMatrix(self.pattern, total)
        projectors, strengths = pp_int.fake_cell_vnl(self.cell)
        for shell, strength in enumerate(strengths):
            atom = int(projectors.bas_atom(shell))
            width = 6 / np.sqrt(projectors.bas_exp(shell)[0])
            images = self.images.near(self.cell.atom_coord(atom), 0.0, more=float(width))
            bra = projectors.to_mol()
            bra._bas = projectors._bas[shell : shell + 1]
            names = [f"{n}_sph" for n in _POWERS[: len(strength)]]
            parts = np.stack([gto.intor_cross(n, bra, images.mole, comp=1) for n in names])
            overlaps = torch.from_numpy(parts)  # every projector, its orientations, orbitals
            weighted = torch.tensordot(torch.as_tensor(strength), overlaps, 1)
            products = overlaps.flatten(0, 1).mT @ weighted.flatten(0, 1)
            Gatherer(self.pattern, images).add(total, products)
        return BlockMatrix(self.pattern, total)

    def potential(self, rows: MeshRows) -> BlockMatrix:
        """Matrices of potentials on the grid.

        Args:
            rows: dE/d(density variable) per volume at the grid's points, as in
                :meth:`~deeph_zero.ks.periodic.terms.on_mesh.MeshTerm.matrix`.

        Returns:
            Elements [nspin, nel], Eh; symmetric.
        """
        given = rows.detach().cpu()
        return self.local(lambda box: [given[:, :, box.points]], deriv=int(rows.shape[1] > 1))

    def local(self, functions: Callable[["Box"], Sequence[Tensor]], deriv: int) -> BlockMatrix:
        """Matrices of local functions that are made box by box; all in one pass over the points.

        Args:
            functions: Gives rows like those of :meth:`potential` at the points of a box, of every
                matrix; a function alone, without derivatives, may have one row.
            deriv: 1 where some have more than one row, 0 otherwise.

        Returns:
            Elements [n, nel], of all matrices behind each other, Eh; symmetric.
        """
        half: Tensor | None = None
        weight = float(self.cell.vol) / math.prod(self.mesh)
        for box, gatherer, images in self._boxes():
            parts = [weight * row for rows in functions(box) for row in rows]
            if half is None:
                half = torch.zeros(len(parts), self.pattern.nel, dtype=torch.float64)
            made = _half_products(images, box.coords, parts, deriv)
            for total, products in zip(half, made, strict=True):
                gatherer.add(total, products)
        assert half is not None, "some atom reaches some point"
        return BlockMatrix(self.pattern, half + half[:, self.pattern.transposed()])

    def _two_centre(self, name: str) -> BlockMatrix:
        pattern, total = self.pattern, np.zeros(self.pattern.nel)
        atoms, cells = pattern.pairs.numpy(), pattern.cells.numpy()
        starts = pattern.offsets.tolist()
        for atom in range(self.cell.natm):
            which = np.flatnonzero(atoms[:, 0] == atom)
            home = self.images.some(np.array([atom]), np.zeros((1, 3), dtype=int))
            others = self.images.some(atoms[which, 1], cells[which])
            found = gto.intor_cross(name, home.mole, others.mole)
            parts = np.split(found, others.sizes.cumsum()[:-1], axis=1)
            for block, part in zip(which, parts, strict=True):
                total[starts[block] : starts[block + 1]] = part.ravel()
        return BlockMatrix(pattern, torch.from_numpy(total))

    def boxes(self) -> Iterator["Box"]:
        """All points of the grid, box by box."""
        return boxes(self.mesh, np.asarray(self.cell.lattice_vectors()))

    def _boxes(self) -> Iterator[tuple["Box", Gatherer, ImageAtoms]]:
        """Points of a box, where products go, and the atoms that reach it."""
        key, known = b"", None
        for box in self.boxes():
            images = self.images.near_box(box.low, box.high)
            if not len(images.atoms):
                continue
            if known is None or key != (key := images.atoms.tobytes() + images.cells.tobytes()):
                known = Gatherer(self.pattern, images)  # neighbouring boxes are alike
            yield box, known, images


@dataclasses.dataclass(frozen=True)
class Box:
    """Points of the grid that lie together.

    Attributes:
        points: Their positions among all points of the grid.
        coords: Their places, in the cell that begins at the origin, bohr.
    """

    points: np.ndarray
    coords: Float[np.ndarray, "n 3"]

    @functools.cached_property
    def low(self) -> np.ndarray:
        """Least coordinates."""
        return self.coords.min(0)

    @functools.cached_property
    def high(self) -> np.ndarray:
        """Largest coordinates."""
        return self.coords.max(0)

    @property
    def centre(self) -> np.ndarray:
        """Middle."""
        return 0.5 * (self.low + self.high)

    @property
    def radius(self) -> float:
        """Distance of the farthest point from the middle."""
        return float(np.linalg.norm(self.coords - self.centre, axis=1).max())


def boxes(
    mesh: tuple[int, int, int], lattice: Float[np.ndarray, "3 3"], most: int = POINTS
) -> Iterator[Box]:
    """The grid's points, box by box.

    Args:
        mesh: Points along the lattice vectors.
        lattice: Vectors in rows, bohr.
        most: About as many points has a box at most.

    Yields:
        Boxes; the last axis is the fastest.
    """
    lengths = np.linalg.norm(lattice, axis=1)
    volume = abs(float(np.linalg.det(lattice))) / math.prod(mesh)
    edge = min(EDGE, (most * volume) ** (1 / 3))
    counts = [min(n, max(1, math.ceil(x / edge))) for n, x in zip(mesh, lengths, strict=True)]
    parts = [np.array_split(np.arange(n), c) for n, c in zip(mesh, counts, strict=True)]
    for part in itertools.product(*parts):
        a, b, c = (x.ravel() for x in np.meshgrid(*part, indexing="ij"))
        coords = np.stack([a, b, c], 1) / mesh @ lattice
        yield Box((a * mesh[1] + b) * mesh[2] + c, coords)


def _half_products(
    images: ImageAtoms, points: np.ndarray, rows: Sequence[Tensor], deriv: int
) -> Iterator[Tensor]:
    """Half of the products of every potential: the other half is their transpose."""
    if deriv and max(len(row) for row in rows) <= 4:
        many = torch.stack([row for row in rows if len(row) == 4])
        many[:, 0] *= 0.5
        ao, sums = images.orbitals_along(points, many)
        with_gradient = iter(sums)
        for row in rows:
            mixed = next(with_gradient) if len(row) == 4 else ao * (0.5 * row[0])
            yield ao @ mixed.mT
        return
    ao = images.orbitals(points, deriv)
    for row in rows:
        yield _half_product(ao, row)


def _half_product(ao: Tensor, rows: Tensor) -> Tensor:
    """Half of the products: the other half is their transpose."""
    mixed = ao[0] * (0.5 * rows[0])
    for x in range(1, min(len(rows), 4)):
        mixed += ao[x] * rows[x]
    products = ao[0] @ mixed.mT
    if len(rows) == 5:
        for x in range(1, 4):
            products += ao[x] @ (ao[x] * (0.25 * rows[4])).mT
    return products
