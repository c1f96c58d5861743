"""From H(k) on a mesh to blocks H(i, j, R): every element goes to the nearest image of its pair."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.integrals.periodic.kpoints import KPoints

_TIE = 1e-5
"""Bohr; images at equal distances share an element."""
_IMAGES = 2
"""Neighbouring supercells that are looked at in each direction; enough for any reduced cell."""
MOST_POINTS = 15
"""Of a mesh chosen here, along one direction."""


def mesh_for(
    lattice: Float[np.ndarray, "3 3"],
    coords: Float[np.ndarray, "natm 3"],
    reach: Float[np.ndarray, "natm natm"],
) -> tuple[int, int, int]:
    """k-points whose supercell keeps all images of a pair apart that reach each other.

    Args:
        lattice: Vectors in rows, bohr.
        coords: Of the atoms, bohr.
        reach: Distance beyond which matrix elements of two atoms are nothing, bohr.

    Returns:
        At most 15 along a direction.
    """
    heights = 1.0 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    spread = np.abs((coords[:, None] - coords) @ np.linalg.inv(lattice)).max((0, 1))
    most = np.ceil(reach.max() / heights + spread).astype(int)
    axes = [np.arange(-n, n + 1) for n in most]
    cells = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    width = np.ones(3, dtype=int)
    for i, own in enumerate(coords):
        for j, other in enumerate(coords):
            near = np.linalg.norm(cells @ lattice + other - own, axis=1) < reach[i, j]
            if near.any():
                width = np.maximum(width, np.ptp(cells[near], axis=0) + 1)
    n1, n2, n3 = (min(int(n), MOST_POINTS) for n in width)
    return n1, n2, n3


def blocks_of(
    matrices: Sequence[Tensor],
    kpoints: KPoints,
    lattice: Float[np.ndarray, "3 3"],
    coords: Float[np.ndarray, "natm 3"],
    sizes: Sequence[int],
    *,
    threshold: float,
) -> list[BlockMatrix]:
    """Σ_k w_k exp(-ik·R) A(k), real where A(-k) = A(k)*, as blocks within one supercell.

    The Bloch sums of the blocks give A(k) back at every point of the mesh.

    Args:
        matrices: [..., nk, nao, nao] each.
        kpoints: A mesh about Γ, of which one of k and -k is enough.
        lattice: Vectors in rows, bohr.
        coords: Of the atoms, bohr.
        sizes: Functions of each atom.
        threshold: Blocks in which no matrix has a larger element are left out.

    Returns:
        All in the same blocks, sorted by (R, i, j).
    """
    assert kpoints.mesh is not None
    counts = np.array(kpoints.mesh)
    home = np.stack(np.meshgrid(*(np.arange(n) for n in counts), indexing="ij"), -1).reshape(-1, 3)
    phase = np.exp(-2j * np.pi * (home @ kpoints.scaled.T)) * kpoints.weights
    summed = [
        torch.einsum("rk,...kij->...rij", torch.from_numpy(phase), m.to(torch.complex128)).real
        for m in matrices
    ]
    found: dict[tuple[int, ...], tuple[int, float]] = {}
    for i in range(len(sizes)):
        for j in range(len(sizes)):
            for place, cell, share in _nearest(home, counts, lattice, coords[j] - coords[i]):
                found[(*cell, i, j)] = (place, share)
    keys = sorted(found)
    starts = np.cumsum([0, *sizes])
    parts: list[list[Tensor]] = [[] for _ in matrices]
    kept: list[tuple[int, ...]] = []
    for key in keys:
        place, share = found[key]
        i, j = key[3:]
        rows, columns = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        own = [share * m[..., place, rows, columns] for m in summed]
        if max(float(b.abs().max()) for b in own) > threshold:
            kept.append(key)
            for part, block in zip(parts, own, strict=True):
                part.append(block)
    table = torch.tensor(kept, dtype=torch.long).reshape(-1, 5)
    return [
        BlockMatrix.from_blocks(table[:, 3:], table[:, :3], part, tuple(sizes)) for part in parts
    ]


def _nearest(
    home: np.ndarray, counts: np.ndarray, lattice: np.ndarray, apart: np.ndarray
) -> list[tuple[int, tuple[int, ...], float]]:
    """(place of R modulo the supercell, R of a nearest image, its share) for one pair of atoms."""
    axis = np.arange(-_IMAGES, _IMAGES + 1)
    shifts = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3) * counts
    cells = home[:, None] + shifts
    distance = np.linalg.norm(cells @ lattice + apart, axis=-1)
    near = distance <= distance.min(1, keepdims=True) + _TIE
    out = []
    for place, image in np.argwhere(near):
        cell = tuple(int(x) for x in cells[place, image])
        out.append((int(place), cell, 1.0 / int(near[place].sum())))
    return out
