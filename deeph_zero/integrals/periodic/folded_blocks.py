"""Exact real-space blocks of H and S: from matrices on a mesh as dense as the functions reach.

The mesh of an SCF is far too coarse for this: blocks folded from it give levels between its points
that are wrong by electronvolts. What is folded are the layer's own matrices, its reciprocal sum of
the non-local potential included, so that H(k) is the layer's at any k.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from pyscf.pbc.gto import Cell
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.extent import shell_extents
from deeph_zero.ao.folding import fold, on_cells
from deeph_zero.errors import ComputationError
from deeph_zero.integrals.ao_shells import ao_basis
from deeph_zero.integrals.periodic.calculation import CrystalCalculation
from deeph_zero.integrals.periodic.kpoints import KPoints
from deeph_zero.integrals.periodic.system import fixed_operator, overlap
from deeph_zero.integrals.periodic.torus_values import TorusValues, half_mesh
from deeph_zero.ks.periodic.types import MeshRows
from deeph_zero.types import Brief

EXACT = 1e-8
"""Largest error of S(k) between the points of the mesh."""
NEGLIGIBLE = 1e-11
"""Blocks of H (Eh) and S without a larger element are left out."""
MOST_POINTS = 20_000
"""k-points beyond which the blocks would not fit into the memory."""
_REACH = 1e-8
"""AO values at the distance that the first guess of the mesh takes for the reach."""
PROBES = ((0.137, -0.291, 0.413), (-0.371, 0.229, 0.083), (0.481, 0.017, -0.193))
"""k-points at which S from blocks is compared."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RealSpace(Brief):
    """Blocks of one crystal.

    Attributes:
        fock: H(i, j, R), Eh; a leading axis of 2 for two spins.
        overlap: S, with the same blocks.
        counts: The mesh of k-points they were made on.
    """

    fock: BlockMatrix
    overlap: BlockMatrix
    counts: tuple[int, int, int]


def real_space_blocks(settings: CrystalCalculation, rows: MeshRows) -> RealSpace:
    """Blocks of F and S that give the matrices at any k.

    Args:
        settings: What is computed.
        rows: Potentials on the grid, one for each density variable, Eh.

    Returns:
        The blocks.

    Raises:
        ComputationError: If the functions reach over too many cells.
    """
    cell = settings.cell
    counts, ovlp = _dense_enough(cell)
    folded = _Folded(cell)
    values = TorusValues(cell, counts, settings.mesh, deriv=0 if rows.shape[1] == 1 else 1)
    weight = float(cell.vol) / values.ngrids
    with torch.no_grad():
        fock = values.potential_matrix(rows.cpu() * weight)
    fock += fixed_operator(cell, settings.mesh, _points(values.scaled), "cpu")
    own, s = folded([fock[0] if len(fock) == 1 else fock, ovlp], counts, NEGLIGIBLE)
    return RealSpace(fock=own, overlap=s, counts=counts)


class _Folded:
    """Blocks of one cell's matrices on a mesh of k-points."""

    def __init__(self, cell: Cell) -> None:
        self._sizes = [int(end - start) for _, _, start, end in cell.aoslice_by_atom()]
        self._coords = torch.from_numpy(np.asarray(cell.atom_coords()))
        self._lattice = torch.from_numpy(np.asarray(cell.lattice_vectors()))

    def __call__(
        self, matrices: Sequence[Tensor], counts: tuple[int, int, int], threshold: float
    ) -> list[BlockMatrix]:
        torus = [on_cells(m, counts) for m in matrices]
        return fold(torus, self._sizes, self._coords, self._lattice, threshold)


def _dense_enough(cell: Cell) -> tuple[tuple[int, int, int], Tensor]:
    """The smallest mesh that tells all cells apart which functions reach, and S on it."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(cell.lattice_vectors()), axis=0)
    reach = float(shell_extents(ao_basis(cell.to_mol()), _REACH, 0).max())
    periodic = np.arange(3) < cell.dimension
    probes = np.where(periodic, np.array(PROBES), 0.0)
    exact = overlap(cell, _points(probes), "cpu")
    width = 1.4 * reach
    while True:
        n1, n2, n3 = (int(n) for n in np.where(periodic, np.ceil(width / heights), 1))
        counts = n1, n2, n3
        if n1 * n2 * n3 > MOST_POINTS:
            raise ComputationError(
                f"real-space blocks: expected functions that reach over at most {MOST_POINTS} "
                f"cells, got {n1 * n2 * n3}; use a basis without diffuse functions, such as "
                "gth-dzvp-molopt-sr"
            )
        ovlp = overlap(cell, _points(half_mesh(counts)), "cpu").to(torch.complex128)
        (blocks,) = _Folded(cell)([ovlp], counts, 0.0)
        error = (blocks.at_k(torch.from_numpy(probes)) - exact).abs().max()
        if float(error) < EXACT:
            return counts, ovlp
        width *= 1.15


def _points(scaled: np.ndarray) -> KPoints:
    return KPoints(scaled=scaled, weights=np.full(len(scaled), 1 / len(scaled)))
