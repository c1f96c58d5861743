"""AO values at a whole mesh of k-points: every image once, then Fourier sums over the cells.

PySCF adds up the images at every k-point anew, which for hundreds of k-points costs far more than
the values themselves.
"""

from typing import final

import numpy as np
import torch
from jaxtyping import Float
from pyscf.pbc import gto
from torch import Tensor

from deeph_zero.ao.extent import shell_extents
from deeph_zero.integrals.ao_shells import ao_basis
from deeph_zero.ks.periodic.grid import BlochBlock, KGroup, potential_matrix
from deeph_zero.ks.periodic.types import BlochMatrix, MeshRows

BLOCK_MB = 150.0
"""AO values of one block of points on all cells, and as much again for their transforms."""

SMALLEST = 1e-11
"""Images whose values and gradients stay below are left out."""


@final
class TorusValues:
    """φ_k on the uniform grid at k = -m/N for the half of a Γ-centred mesh that a real FFT gives.

    Implements ``ks.periodic.grid.BlochGrid``. Blocks are made in every pass.

    Attributes:
        scaled: The k-points in the order of the half spectrum, fractions in (-1/2, 1/2].
    """

    def __init__(
        self,
        cell: gto.Cell,
        counts: tuple[int, int, int],
        mesh: tuple[int, int, int],
        *,
        deriv: int,
    ) -> None:
        """Nothing is computed yet.

        Args:
            cell: The crystal.
            counts: k-points along each reciprocal vector.
            mesh: Points of the uniform grid.
            deriv: 1 with gradients, 0 without.
        """
        self._cell, self._counts, self._deriv = cell, counts, deriv
        self._mol = cell.to_mol()
        self._coords = cell.get_uniform_grids(mesh)
        self.scaled = half_mesh(counts)
        self.nao = int(cell.nao)
        self.nk = len(self.scaled)
        self.ngrids = len(self._coords)
        per_point = (1, 4)[deriv] * self.nao * 8 * int(np.prod(counts))
        self._size = max(16, int(BLOCK_MB * 1e6 / per_point))
        self.n_blocks = -(-self.ngrids // self._size)
        self._atoms = self._reaches()

    def _reaches(self) -> list[tuple[int, int, slice, float]]:
        """First and last shell of each atom, its AOs, and how far they reach, bohr."""
        extents = shell_extents(ao_basis(self._mol), SMALLEST, self._deriv).numpy()
        found = []
        for first, last, start, end in self._mol.aoslice_by_atom():
            if last > first:
                reach = float(extents[first:last].max())
                found.append((int(first), int(last), slice(int(start), int(end)), reach))
        return found

    def block(self, b: int) -> BlochBlock:
        """AO values on block ``b`` of the points.

        Args:
            b: 0 <= b < n_blocks.

        Returns:
            The block.
        """
        points = self._points(b)
        on_cells = self._on_cells(self._coords[points])
        values = torch.fft.rfftn(on_cells, dim=(0, 1, 2))
        return BlochBlock(points, (KGroup(torch.arange(self.nk), values.flatten(0, 2)),))

    def potential_matrix(self, rows: MeshRows) -> BlochMatrix:
        """Matrices of potentials, as ``ks.periodic.grid.potential_matrix`` makes them of blocks.

        Args:
            rows: dE/d(row) at every point, quadrature weights included.

        Returns:
            M with Σ rows · dρ = Σ_k Re tr(M_k dP_k), Hermitian.

        Cost:
            Without τ orbitals are mixed with their gradients before they are transformed, half of
            the transforms and products.
        """
        if rows.shape[1] == 5:
            return potential_matrix(self, rows, torch.complex128)
        shape = (len(rows), self.nk, self.nao, self.nao)
        half = torch.zeros(shape, dtype=torch.complex128)
        for b in range(self.n_blocks):
            points = self._points(b)
            ao = self._on_cells(self._coords[points])
            bra = torch.fft.rfftn(ao[:, :, :, 0], dim=(0, 1, 2)).flatten(0, 2).conj()
            for s, row in enumerate(rows[..., points]):
                mixed = ao[:, :, :, 0] * (0.5 * row[0])
                for x in range(1, len(row)):
                    mixed.addcmul_(ao[:, :, :, x], row[x])
                half[s] += bra @ torch.fft.rfftn(mixed, dim=(0, 1, 2)).flatten(0, 2).mT
        return half + half.mH

    def _points(self, b: int) -> slice:
        return slice(b * self._size, min((b + 1) * self._size, self.ngrids))

    def _on_cells(self, points: np.ndarray) -> Float[Tensor, "n1 n2 n3 ncomp nao npoints"]:
        """Values of the images in every cell of the torus, at points of the home cell."""
        shape = (*self._counts, (1, 4)[self._deriv], self.nao, len(points))
        out = torch.zeros(shape, dtype=torch.float64)
        name = ("GTOval_sph", "GTOval_sph_deriv1")[self._deriv]
        centre = 0.5 * (points.min(0) + points.max(0))
        radius = float(np.linalg.norm(points - centre, axis=1).max())
        vectors = self._cell.lattice_vectors()
        for first, last, aos, reach in self._atoms:
            away = centre - self._mol.atom_coord(self._mol.bas_atom(first))
            cells = _cells_within(vectors, away, reach + radius)
            for some in np.array_split(cells, -(-len(cells) * len(points) // 200_000) or 1):
                if not len(some):
                    continue
                shifted = points[None] - (some @ vectors)[:, None]
                values = self._mol.eval_gto(
                    name, shifted.reshape(-1, 3), shls_slice=(first, last)
                ).reshape(shape[3], len(some), len(points), -1)
                moved = torch.from_numpy(values).permute(1, 0, 3, 2)
                for place, value in zip(some % np.array(self._counts), moved, strict=True):
                    out[place[0], place[1], place[2], :, aos] += value
        return out


def half_mesh(counts: tuple[int, int, int]) -> Float[np.ndarray, "nk 3"]:
    """k = -m/N in the order of ``torch.fft.rfftn``, in (-1/2, 1/2].

    Args:
        counts: k-points along each reciprocal vector.

    Returns:
        Fractions of the reciprocal vectors.
    """
    n1, n2, n3 = counts
    axes = [np.arange(n1) / n1, np.arange(n2) / n2, np.arange(n3 // 2 + 1) / n3]
    points = -np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return np.where(points <= -0.5, points + 1.0, points) + 0.0


def _cells_within(vectors: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Cells T with |centre - T| at most ``radius``, as whole numbers [n, 3].

    Layers have them in all three directions too, as PySCF adds up images.
    """
    inverse = np.linalg.inv(vectors)
    middle = centre @ inverse
    spread = radius * np.linalg.norm(inverse, axis=0)
    low, high = np.ceil(middle - spread).astype(int), np.floor(middle + spread).astype(int)
    axes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    return cells[np.linalg.norm(centre - cells @ vectors, axis=1) <= radius]
