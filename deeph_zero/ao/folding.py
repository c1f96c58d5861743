"""Real-space blocks A(i, j, R) of matrices that are known on a whole mesh of k-points.

A mesh of N1 x N2 x N3 points tells cells apart that differ by less than N; each block is put where
its atoms are nearest to each other, and shared evenly between places at equal distance.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.block_pattern import BlockPattern

_SAME = 1e-6
"""Distances (bohr) closer than this are equal."""
_AROUND = (-2, -1, 0, 1, 2)
"""Copies of the torus that are looked at: enough for cells that lean."""


def on_cells(
    matrices: Inexact[Tensor, "*lead nhalf nao nao"], counts: tuple[int, int, int]
) -> Float[Tensor, "*lead n1 n2 n3 nao nao"]:
    """A(R) on the torus of cells.

    Args:
        matrices: At k = -m/N, m in the order of the half spectrum of a real FFT.
        counts: N.

    Returns:
        Σ_k exp(-ik·R) A(k) / N1N2N3 at R = 0 .. N - 1 along each axis; real by time reversal.
    """
    n1, n2, n3 = counts
    shape = (*matrices.shape[:-3], n1, n2, n3 // 2 + 1, *matrices.shape[-2:])
    return torch.fft.irfftn(matrices.reshape(shape), s=counts, dim=(-5, -4, -3))


def summed_on_cells(
    matrices: Inexact[Tensor, "*lead nk nao nao"],
    kpts: Float[Tensor, "nk 3"],
    weights: Float[Tensor, " nk"],
    counts: tuple[int, int, int],
) -> Float[Tensor, "*lead n1 n2 n3 nao nao"]:
    """A(R) on the torus of cells, of k-points in any order.

    Args:
        matrices: At points of a mesh about Γ, of which one of k and -k is enough where
            A(-k) = A(k)*.
        kpts: Fractions of the reciprocal vectors.
        weights: Sum 1.
        counts: Points of the whole mesh along each reciprocal vector.

    Returns:
        The real part of Σ_k w_k exp(-ik·R) A(k) at R = 0 .. N - 1 along each axis.
    """
    home = torch.cartesian_prod(*(torch.arange(n, dtype=kpts.dtype) for n in counts)).reshape(-1, 3)
    angle = -2 * math.pi * (home @ kpts.mT)
    phase = torch.polar(weights.expand_as(angle).contiguous(), angle)
    summed = torch.einsum("rk,...kij->...rij", phase, matrices.to(torch.complex128)).real
    return summed.unflatten(-3, counts)


def fold(
    matrices: Sequence[Float[Tensor, "... n1 n2 n3 nao nao"]],
    sizes: Sequence[int],
    coords: Float[Tensor, "natm 3"],
    lattice: Float[Tensor, "3 3"],
    threshold: float,
) -> list[BlockMatrix]:
    """Blocks of matrices on the torus, all of one pattern.

    Args:
        matrices: A(R) from :func:`on_cells` or :func:`summed_on_cells`.
        sizes: AOs of each atom.
        coords: Cartesian, bohr.
        lattice: Vectors in rows, bohr.
        threshold: Blocks without an element above it in any of the matrices are left out.

    Returns:
        A matrix for each, blocks sorted by atoms; Hermitian where A(k) is.
    """
    counts = torch.tensor(matrices[0].shape[-5:-2])
    shifts = torch.tensor(list(itertools.product(*([0] if n == 1 else _AROUND for n in counts))))
    flat = [m.flatten(-5, -3) for m in matrices]
    home = torch.cartesian_prod(*(torch.arange(int(n)) for n in counts)).reshape(-1, 3)
    ends = torch.tensor(list(sizes)).cumsum(0).tolist()
    slices = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    pairs, cells, blocks = [], [], [[] for _ in matrices]
    for i, j in itertools.product(range(len(sizes)), repeat=2):
        parts = [m[..., slices[i], slices[j]] for m in flat]
        large = torch.stack([_largest(p) for p in parts]).amax(0) > threshold
        place, cell, share = _nearest(home[large], shifts, counts, coords[j] - coords[i], lattice)
        pairs.append(torch.tensor([[i, j]]).expand(len(cell), -1))
        cells.append(cell)
        for own, part in zip(blocks, parts, strict=True):
            chosen = part[..., large, :, :][..., place, :, :] * share[:, None, None]
            own.append(chosen.flatten(-3))
    pattern = BlockPattern(torch.cat(pairs), torch.cat(cells), tuple(sizes))
    return [BlockMatrix(pattern, torch.cat(own, -1)) for own in blocks]


def _largest(part: Float[Tensor, "*lead ncell ni nj"]) -> Float[Tensor, " ncell"]:
    sizes = part.abs().amax((-2, -1))
    return sizes.reshape(-1, sizes.shape[-1]).amax(0)


def _nearest(
    home: Tensor, shifts: Tensor, counts: Tensor, apart: Tensor, lattice: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Which torus cell, the cell it is put into, and its share: one row for each image."""
    middle = apart @ torch.linalg.inv(lattice)
    base = -((home + middle) / counts).round().long() * counts + home
    images = base[:, None] + shifts * counts
    distance = (images.to(lattice) @ lattice + apart).norm(dim=-1)
    near = distance <= distance.amin(1, keepdim=True) + _SAME
    place, copy = near.nonzero(as_tuple=True)
    share = 1.0 / near.sum(1).to(lattice)
    return place, images[place, copy], share[place]
