"""AO values at a whole mesh of k-points: every image once, then Fourier sums over the cells.

PySCF adds up the images at every k-point anew, which for hundreds of k-points costs far more than
the values themselves.
"""

import math
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int
from pyscf.pbc import gto
from torch import Tensor

from deeph_zero.integrals.periodic.image_atoms import ImageAtoms, Images
from deeph_zero.integrals.periodic.real_space import boxes
from deeph_zero.ks.periodic.grid import BlochBlock, KGroup, potential_matrix
from deeph_zero.ks.periodic.types import BlochMatrix, MeshRows

BLOCK_MB = 16.0
"""AO values of one box of points on all cells, one component, and as much for its transform.

Memory of this size is used again for the next box; the system gives larger pieces out anew, which
takes as long as the transforms.
"""

SMALLEST = 1e-11
"""Images whose values and gradients stay below are left out."""


@final
class TorusValues:
    """φ_k on the uniform grid at k = -m/N for the half of a Γ-centred mesh that a real FFT gives.

    Implements ``ks.periodic.grid.BlochGrid``. Blocks are made in every pass. They are boxes of
    points that lie together, so that few images reach each; the points are counted in that order,
    in the cell that begins at the origin.

    Attributes:
        scaled: The k-points in the order of the half spectrum, fractions in (-1/2, 1/2].
        order: Points of the grid in the order of the boxes.
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
        self._counts, self._deriv = counts, deriv
        self._images = Images(cell, SMALLEST)
        self.scaled = half_mesh(counts)
        self.nao = int(cell.nao)
        self.nk = len(self.scaled)
        self.ngrids = math.prod(mesh)
        most = max(16, int(BLOCK_MB * 1e6 / (8 * self.nao * math.prod(counts))))
        self._boxes = list(boxes(mesh, np.asarray(cell.lattice_vectors()), most))
        self.n_blocks = len(self._boxes)
        self.order: Int[np.ndarray, " ngrids"] = np.concatenate([b.points for b in self._boxes])
        self._ends = np.cumsum([len(b.points) for b in self._boxes]).tolist()
        self._first = np.cumsum(self._images.sizes) - self._images.sizes

    def block(self, b: int) -> BlochBlock:
        """AO values on block ``b`` of the points.

        Args:
            b: 0 <= b < n_blocks.

        Returns:
            The block.
        """
        box = self._boxes[b]
        images = self._images.near_box(box.low, box.high)
        on_cells = self._on_cells(images, images.orbitals(box.coords, self._deriv))
        values = torch.stack([self._transformed(part) for part in on_cells], 1)
        return BlochBlock(self._points(b), (KGroup(torch.arange(self.nk), values),))

    def potential_matrix(self, rows: MeshRows) -> BlochMatrix:
        """Matrices of potentials, as ``ks.periodic.grid.potential_matrix`` makes them of blocks.

        Args:
            rows: dE/d(row) at every point of the grid, quadrature weights included.

        Returns:
            M with Σ rows · dρ = Σ_k Re tr(M_k dP_k), Hermitian.

        Cost:
            Without τ gradients are summed up with their potentials before they are transformed,
            half of the transforms and products.
        """
        ordered = rows[..., torch.from_numpy(self.order)]
        if rows.shape[1] == 5:
            return potential_matrix(self, ordered, torch.complex128)
        ordered[:, 0] *= 0.5
        shape = (len(rows), self.nk, self.nao, self.nao)
        half = torch.zeros(shape, dtype=torch.complex128)
        for b, box in enumerate(self._boxes):
            images = self._images.near_box(box.low, box.high)
            ao, mixed = _along(images, box.coords, ordered[..., self._points(b)])
            bra, *kets = (self._transformed(x) for x in self._on_cells(images, [ao, *mixed]))
            bra.conj_physical_()
            for own, ket in zip(half, kets, strict=True):
                own.baddbmm_(bra, ket.mT)
        return half + half.mH

    def _points(self, b: int) -> slice:
        return slice(self._ends[b] - len(self._boxes[b].points), self._ends[b])

    def _on_cells(self, images: ImageAtoms, parts: Sequence[Tensor] | Tensor) -> list[Tensor]:
        """Orbitals of images, [nao of all, npoints] each, in the cells of the torus."""
        cell = np.ravel_multi_index(tuple((images.cells % np.array(self._counts)).T), self._counts)
        first = cell * self.nao + self._first[images.atoms]
        shift = first - images.sizes.cumsum() + images.sizes
        where = torch.from_numpy(np.arange(images.nao) + np.repeat(shift, images.sizes))
        different = np.unique(cell * len(self._first) + images.atoms)
        apart = different.size == len(images.atoms)
        made = []
        for part in parts:
            out = part.new_zeros(math.prod(self._counts) * self.nao, part.shape[-1])
            # images of a torus that is smaller than their reach fall onto each other
            out.index_copy_(0, where, part) if apart else out.index_add_(0, where, part)
            made.append(out.view(*self._counts, self.nao, -1))
        return made

    def _transformed(self, on_cells: Tensor) -> Tensor:
        return torch.fft.rfftn(on_cells, dim=(0, 1, 2)).flatten(0, 2)


def _along(
    images: ImageAtoms, points: np.ndarray, rows: Float[Tensor, "nspin nvar npoints"]
) -> tuple[Tensor, Tensor]:
    """φ of images, and v φ + w·∇φ of every spin."""
    if rows.shape[1] > 1:
        return images.orbitals_along(points, rows)
    ao = images.orbitals(points, 0)[0]
    return ao, ao * rows


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
