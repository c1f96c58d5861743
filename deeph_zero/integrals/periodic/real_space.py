"""Matrices of a crystal as blocks (i, j, R), exact and without k-points.

⟨μ 0| A |ν R⟩ of an operator with the crystal's period is a sum over places g of one cell, points of
the grid or projectors, of products of orbitals of all cells there:

    A(μ, ν, R) = Σ_L Σ_g φ_μ(g - L) A_g φ_ν(g - L - R).

Each step multiplies the orbitals that reach some places with themselves and adds what belongs to
the same (i, j, R). Nothing is folded, so that blocks do not depend on a mesh of k-points, and the
cost is linear in atoms.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from pyscf import gto
from pyscf.pbc.gto import Cell
from pyscf.pbc.gto.pseudo import pp_int
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.image_atoms import Gatherer, Images
from deeph_zero.ks.periodic.types import MeshRows

# ruff: noqa: SLF001  pseudopotentials are read where PySCF keeps them

BOX = 13
"""Most points of a box along an axis."""
NEGLIGIBLE = 1e-8
"""Orbitals that are smaller everywhere on a box of points are left out there."""
_POWERS = ("int1e_ovlp", "int1e_r2_origi", "int1e_r4_origi")
"""Integrals with the first, second and third projector of a channel."""


class RealSpaceMatrices:
    """Blocks of one crystal's matrices, on given keys."""

    def __init__(self, cell: Cell, mesh: tuple[int, int, int], pattern: BlockPattern) -> None:
        """Nothing is computed yet.

        Args:
            cell: The crystal, with GTH pseudopotentials.
            mesh: Points of the uniform grid that potentials are given on.
            pattern: Keys; the cell's atoms and AOs, and (j, i, -R) beside every (i, j, R).

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
        self._images = Images(cell, NEGLIGIBLE)

    def overlap(self) -> BlockMatrix:
        """S."""
        return self._two_centre("int1e_ovlp_sph")

    def kinetic(self) -> BlockMatrix:
        """T, Eh."""
        return self._two_centre("int1e_kin_sph")

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
            images = self._images.near(self.cell.atom_coord(atom), 0.0, more=float(width))
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
                :meth:`~deeph_zero.ks.periodic.terms.MeshTerm.matrix`.

        Returns:
            Elements [nspin, nel], Eh; symmetric.
        """
        half = torch.zeros(len(rows), self.pattern.nel, dtype=torch.float64)
        weighted = rows.detach().cpu() * (self.cell.vol / rows.shape[-1])
        for points, gatherer, ao in self._boxes(deriv=int(rows.shape[1] > 1)):
            for s, total in enumerate(half):
                gatherer.add(total, _half_product(ao, weighted[s][:, points]))
        return BlockMatrix(self.pattern, half + half[:, self.pattern.transposed()])

    def _two_centre(self, name: str) -> BlockMatrix:
        pattern, total = self.pattern, np.zeros(self.pattern.nel)
        atoms, cells = pattern.pairs.numpy(), pattern.cells.numpy()
        starts = pattern.offsets.tolist()
        for atom in range(self.cell.natm):
            which = np.flatnonzero(atoms[:, 0] == atom)
            home = self._images.some(np.array([atom]), np.zeros((1, 3), dtype=int))
            others = self._images.some(atoms[which, 1], cells[which])
            found = gto.intor_cross(name, home.mole, others.mole)
            parts = np.split(found, others.sizes.cumsum()[:-1], axis=1)
            for block, part in zip(which, parts, strict=True):
                total[starts[block] : starts[block + 1]] = part.ravel()
        return BlockMatrix(pattern, torch.from_numpy(total))

    def _boxes(self, deriv: int) -> Iterator[tuple[Tensor, Gatherer, Tensor]]:
        """Points of a box, where products go, and orbitals [component, orbital, point]."""
        coords = self.cell.get_uniform_grids(self.mesh)
        name = "GTOval_sph_deriv1" if deriv else "GTOval_sph"
        known: dict[bytes, Gatherer] = {}
        for points in boxes(self.mesh):
            own = coords[points]
            centre = 0.5 * (own.min(0) + own.max(0))
            radius = float(np.linalg.norm(own - centre, axis=1).max())
            images = self._images.near(centre, radius)
            if not len(images.atoms):
                continue
            values = images.mole.eval_gto(name, own).reshape((1, 4)[deriv], len(own), -1)
            # of all orientations and components together: the choice turns with the crystal
            squares = np.add.reduceat(
                np.square(values).sum(0), images.sizes.cumsum() - images.sizes, axis=1
            )
            used = squares.max(0) > NEGLIGIBLE**2
            orbitals = np.repeat(used, images.sizes)
            kept = self._images.some(images.atoms[used], images.cells[used])
            key = kept.atoms.tobytes() + kept.cells.tobytes()
            if key not in known:
                known = {key: Gatherer(self.pattern, kept)}  # neighbouring boxes are alike
            ao = np.ascontiguousarray(values[..., orbitals].transpose(0, 2, 1))
            yield torch.from_numpy(points), known[key], torch.from_numpy(ao)


def boxes(mesh: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Positions of the grid's points, box by box.

    Args:
        mesh: Points along the lattice vectors.

    Yields:
        Positions of one box.
    """
    parts = [np.array_split(np.arange(n), -(-n // BOX)) for n in mesh]
    for a, b, c in itertools.product(*parts):
        yield ((a[:, None, None] * mesh[1] + b[:, None]) * mesh[2] + c).ravel()


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
