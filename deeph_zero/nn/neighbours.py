"""Pairs of atoms within a cutoff, over the images of a crystal, at a cost linear in atoms."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from vesin import NeighborList

from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.errors import InputError

CLOSEST = 1e-3
"""Atoms nearer than this are at one position, bohr."""


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Directed pairs (i, j, R), sorted, with (j, i, -R) beside every (i, j, R).

    Attributes:
        pairs: Receiver i and sender j.
        cells: Lattice vector R of the sender's cell; zeros in a molecule.
        vectors: R_j + R - R_i, bohr.
    """

    pairs: Int[Tensor, "2 nedge"]
    cells: Int[Tensor, "nedge 3"]
    vectors: Float[Tensor, "nedge 3"]

    def pattern(self, sizes: Sequence[int]) -> BlockPattern:
        """The blocks that belong to them: first every atom's own, then the pairs'.

        Args:
            sizes: AOs of each atom.

        Returns:
            Their keys.
        """
        atoms = torch.arange(len(sizes))
        home = torch.zeros(len(sizes), 3, dtype=self.cells.dtype)
        return BlockPattern(
            torch.cat([torch.stack([atoms, atoms]), self.pairs], 1).T.contiguous(),
            torch.cat([home, self.cells]),
            tuple(sizes),
        )


def neighbours(
    coords: Float[Tensor, "natm 3"],
    cutoff: float,
    lattice: Float[Tensor, "3 3"] | None = None,
) -> Neighbours:
    """All pairs nearer than a cutoff.

    Args:
        coords: Positions, bohr.
        cutoff: bohr.
        lattice: Lattice vectors as rows, bohr; None: a molecule. Of a crystal an atom's own images
            count as well.

    Returns:
        The pairs.

    Raises:
        InputError: If two atoms are at one position.
    """
    box = torch.zeros(3, 3, dtype=torch.float64) if lattice is None else lattice.double()
    # pairs at the very edge are decided below, alike for (i, j, R) and (j, i, -R)
    search = NeighborList(cutoff=cutoff * (1 + 1e-9), full_list=True, n_threads=1)
    i, j, shift = search.compute(
        points=coords.numpy(), box=box.numpy(), periodic=lattice is not None, quantities="ijS"
    )
    order = np.lexsort((*shift.T[::-1], j, i))
    pairs = torch.from_numpy(np.stack([i, j])[:, order].astype(np.int64))
    cells = torch.from_numpy(shift[order].astype(np.int64))
    vectors = coords[pairs[1]] - coords[pairs[0]]
    if lattice is not None:
        vectors = vectors + cells.to(box) @ box
    distance = vectors.norm(dim=-1)
    if bool((distance < CLOSEST).any()):
        first, second = pairs[:, int(distance.argmin())].tolist()
        msg = (
            f"atoms must be apart, got atoms {first} and {second} at one position; check the "
            "geometry"
        )
        raise InputError(msg)
    near = distance < cutoff
    return Neighbours(pairs[:, near], cells[near], vectors[near])
