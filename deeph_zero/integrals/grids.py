"""Quadrature grids and blocks of AO values, kept in memory up to a stated limit."""

import numpy as np
import torch
from pyscf import gto
from pyscf.dft import gen_grid, numint

from deeph_zero.integrals.one_electron import as_tensor
from deeph_zero.ks.protocol import AOBlock

AO_CUTOFF = 1e-13
"""A column is dropped from a block where value and gradient stay below this everywhere."""

AO_MEMORY_MB = 1000.0
BLOCK_MEMORY_MB = 64.0
MAX_BLOCK_POINTS = 8192
CACHE_MB = 1.0
"""AO values of one component of a block, so that what is made of them stays in the cache."""
CACHED_BLOCK_POINTS = 1024
"""A block is never cut below it for the cache's sake."""
MIN_BLOCK_POINTS = 256


def build_grid(mol: gto.Mole, level: int = 3) -> gen_grid.Grids:
    """PySCF's atomic grid with its own pruning, partition and spatial sorting.

    Args:
        mol: Built molecule.
        level: 0 (coarse) to 9.

    Returns:
        Built grid.
    """
    grids = gen_grid.Grids(mol)
    grids.level = level
    return grids.build()


class AOGrid:
    """AO values on a grid, block by block; implements :class:`~deeph_zero.ks.protocol.Grid`.

    PySCF sorts grid points into spatial boxes, so a block is compact and far AOs vanish on it;
    those columns are left out. The first blocks asked for are kept on the device until
    ``ao_memory_mb`` is used up; the others are evaluated again at every call, with identical
    values. Points of zero weight (PySCF pads its grids) are dropped.

    Accuracy:
        Density and energy agree with the unscreened ones to 1e-12 (relative).
    """

    def __init__(
        self,
        mol: gto.Mole,
        grids: gen_grid.Grids,
        *,
        deriv: int,
        device: torch.device | str = "cpu",
        ao_memory_mb: float = AO_MEMORY_MB,
        block_memory_mb: float = BLOCK_MEMORY_MB,
    ) -> None:
        """Nothing is evaluated yet.

        Args:
            mol: Built molecule.
            grids: Built PySCF grid (coordinates in bohr).
            deriv: 0 for values only (LDA), 1 for values and gradients (GGA, meta-GGA).
            device: Where blocks go.
            ao_memory_mb: Memory for kept blocks, MB; 0 keeps none.
            block_memory_mb: Memory for one block with all columns, MB.
        """
        used = np.flatnonzero(grids.weights)
        self.coords = np.ascontiguousarray(grids.coords[used])
        self.weights = np.ascontiguousarray(grids.weights[used])
        self.nao = int(mol.nao_nr())
        self.ngrids = len(used)
        self.deriv = deriv
        self.ncomp = 4 if deriv else 1
        self.device = torch.device(device)
        self._mol = mol
        self._limit = int(ao_memory_mb * 1e6)
        self._kept_bytes = 0
        self._kept: dict[int, AOBlock] = {}
        self._columns: dict[int, np.ndarray] = {}
        self._bounds = _block_bounds(self.ngrids, self.ncomp, self.nao, block_memory_mb)
        self.n_blocks = len(self._bounds) - 1

    @property
    def memory_bytes(self) -> int:
        """Most bytes that kept blocks can take."""
        return min(self._limit, self.ncomp * self.ngrids * self.nao * 8)

    def block(self, k: int) -> AOBlock:
        """Block ``k``, from memory or evaluated now.

        Args:
            k: 0 <= k < n_blocks.

        Returns:
            AO values (and gradients) of the AOs that are significant there.

        Raises:
            IndexError: No such block.
        """
        if not 0 <= k < self.n_blocks:
            msg = f"expected a block below {self.n_blocks}, got {k}"
            raise IndexError(msg)
        kept = self._kept.get(k)
        if kept is not None:
            return kept
        block = self._evaluate(k)
        nbytes = block.ao.numel() * 8
        if self._kept_bytes + nbytes <= self._limit:
            self._kept[k] = block
            self._kept_bytes += nbytes
        return block

    def _evaluate(self, k: int) -> AOBlock:
        points = slice(self._bounds[k], self._bounds[k + 1])
        ao = numint.eval_ao(self._mol, self.coords[points], deriv=self.deriv)
        ao = ao.reshape(self.ncomp, -1, self.nao)
        if k not in self._columns:
            largest = np.maximum(ao.max(axis=1), -ao.min(axis=1)).max(axis=0)
            self._columns[k] = np.flatnonzero(largest > AO_CUTOFF)
        columns = self._columns[k]
        index = None
        if len(columns) < self.nao:
            ao = ao[:, :, columns]
            index = torch.from_numpy(columns).to(self.device)
        weights = as_tensor(self.weights[points], self.device)
        return AOBlock(ao=as_tensor(ao, self.device), index=index, weights=weights)


def _block_bounds(ngrids: int, ncomp: int, nao: int, block_memory_mb: float) -> list[int]:
    """Equal blocks that fit memory and, if they do not get too small, the processor's cache."""
    fitting = int(block_memory_mb * 1e6) // max(ncomp * nao * 8, 1)
    cached = max(int(CACHE_MB * 1e6) // max(nao * 8, 1), CACHED_BLOCK_POINTS)
    size = max(min(fitting, cached, MAX_BLOCK_POINTS), MIN_BLOCK_POINTS)
    n_blocks = max(-(-ngrids // size), 1)
    return [round(i * ngrids / n_blocks) for i in range(n_blocks + 1)]
