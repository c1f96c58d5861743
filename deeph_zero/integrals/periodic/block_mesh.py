"""From H(k) on a mesh to blocks H(i, j, R): every element goes to the nearest image of its pair."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.folding import fold, summed_on_cells
from deeph_zero.integrals.periodic.kpoints import KPoints

MOST_POINTS = 15
"""Most points of a mesh chosen here, along one direction."""


def mesh_for(
    lattice: Float[np.ndarray, "3 3"],
    coords: Float[np.ndarray, "natm 3"],
    reach: Float[np.ndarray, "natm natm"],
) -> tuple[int, int, int]:
    """k-points whose supercell keeps all images of a pair apart that reach each other.

    Args:
        lattice: Vectors in rows, bohr.
        coords: Positions of the atoms, bohr.
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
        coords: Positions of the atoms, bohr.
        sizes: Functions of each atom.
        threshold: Blocks in which no matrix has a larger element are left out.

    Returns:
        All in the same blocks.
    """
    assert kpoints.mesh is not None
    kpts, weights = torch.from_numpy(kpoints.scaled), torch.from_numpy(kpoints.weights)
    torus = [summed_on_cells(m, kpts, weights, kpoints.mesh) for m in matrices]
    places = [torch.from_numpy(np.ascontiguousarray(x, dtype=float)) for x in (coords, lattice)]
    return fold(torus, sizes, places[0], places[1], threshold)
