"""Quadrature grids and blocks of AO values, kept in memory up to a stated limit."""

import copy
import dataclasses
import functools
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from pyscf import gto
from pyscf.dft import gen_grid
from torch import Tensor

from deeph_zero.integrals.ao_engine import AOEngineName, ShellReach, TorchAO, make_engine
from deeph_zero.integrals.ao_stacks import BlockSource, make_stack
from deeph_zero.integrals.ao_storage import AOStore, choose_precision, rounding_bound
from deeph_zero.integrals.one_electron import as_tensor, lindep_threshold
from deeph_zero.integrals.point_order import box_order, compact_order
from deeph_zero.ks.protocol import AOBlock, AOStack

AO_CUTOFF = 1e-13
"""A shell is left out of a block where values and gradients stay below this everywhere."""

AO_MEMORY_MB = 1000.0
BLOCK_MEMORY_MB = 64.0
MAX_BLOCK_POINTS = 8192
CACHE_MB = 1.0
"""AO values of one component of a block, so that what is made of them stays in the cache."""
CACHED_BLOCK_POINTS = 1024
"""A block is never cut below it for the cache's sake."""
MIN_BLOCK_POINTS = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridPoints:
    """A quadrature grid; named as in PySCF.

    Attributes:
        coords: [ngrids, 3], bohr.
        weights: [ngrids].
    """

    coords: np.ndarray
    weights: np.ndarray


def build_grid(
    mol: gto.Mole, level: int = 3, *, atom_grid: dict[str, tuple[int, int]] | None = None
) -> gen_grid.Grids:
    """PySCF's atomic grid with its own pruning, partition and spatial sorting.

    Args:
        mol: Built molecule.
        level: 0 (coarse) to 9.
        atom_grid: Radial and angular points by atom symbol, in place of the level's.

    Returns:
        Built grid.
    """
    grids = gen_grid.Grids(mol)
    grids.level = level
    if atom_grid is not None:
        grids.atom_grid = atom_grid
    grids.build(sort_grids=False)
    real = int((grids.atm_idx >= 0).sum())  # what follows is padding
    order = np.arange(len(grids.weights))
    order[:real] = box_order(mol.atom_coords(), grids.coords[:real])
    grids._select_grids(order)  # noqa: SLF001  PySCF's way to reorder, private to it
    return grids


def with_elements(grids: gen_grid.Grids) -> gen_grid.Grids:
    """A grid whose molecule states the charges of its elements, for derivatives of its weights.

    PySCF's partition takes radii by element, its derivative by nuclear charge, which is another one
    with effective core potentials and for ghost atoms.

    Args:
        grids: Built or not.

    Returns:
        The grid, with another molecule.
    """
    mol = grids.mol.copy()
    plain = gto.mole._std_symbol_without_ghost  # noqa: SLF001
    protons = [gto.charge(plain(mol.atom_symbol(k))) for k in range(mol.natm)]
    mol.atom_charges = lambda: np.array(protons)
    found = copy.copy(grids)
    found.mol = mol
    return found


class AOGrid:
    """AO values on a grid, block by block; implements :class:`~deeph_zero.ks.protocol.Grid`.

    PySCF sorts grid points into spatial boxes, so a block is compact and far AOs vanish on it;
    shells that cannot reach it are left out and never evaluated. If all blocks
    fit ``ao_memory_mb`` they are kept on the device in float64. Otherwise columns are rounded to
    float32 as far as a bound on the energy allows (``ao_storage.py``), the first blocks asked for
    are kept until the memory is used up, and the others are evaluated again at every call, with
    identical values. Points of zero weight (PySCF pads its grids) are dropped; those of a large
    molecule are reordered where that makes blocks more compact (``point_order.py``).

    Attributes:
        beside: A smaller grid of the same molecule that shares the memory for kept values.

    Accuracy:
        Density and energy agree with the unscreened ones to 1e-12 (relative); rounded columns
        change the energy by less than 1e-9 Eh.
    """

    def __init__(
        self,
        mol: gto.Mole,
        grids: gen_grid.Grids | GridPoints,
        *,
        deriv: int,
        device: torch.device | str = "cpu",
        ao_memory_mb: float = AO_MEMORY_MB,
        block_memory_mb: float = BLOCK_MEMORY_MB,
        ao_engine: AOEngineName = "auto",
        allow_float32: bool = True,
        lindep: float | None = None,
    ) -> None:
        """Nothing is evaluated yet.

        Args:
            mol: Built molecule.
            grids: Built PySCF grid (coordinates in bohr), or its points.
            deriv: 0 for values only (LDA), 1 for values and gradients (GGA, meta-GGA).
            device: Where blocks go.
            ao_memory_mb: Memory for kept blocks, MB; 0 keeps none.
            block_memory_mb: Memory for one block with all columns, MB.
            ao_engine: "auto" (libcint for the CPU, torch for other devices), "libcint", "torch".
            allow_float32: Round columns when memory is short; False for meta-GGAs, whose
                derivative with respect to tau has no bound.
            lindep: Eigenvectors of S below it carry no density; None: PySCF's threshold.
        """
        used = np.flatnonzero(grids.weights)
        self.nao = int(mol.nao_nr())
        self.ngrids = len(used)
        self.deriv = deriv
        self.ncomp = 4 if deriv else 1
        self.device = torch.device(device)
        on_cpu = self.device.type == "cpu"
        self._bounds = _block_bounds(
            self.ngrids, self.ncomp, self.nao, block_memory_mb, cached=on_cpu
        )
        self.n_blocks = len(self._bounds) - 1
        reach = ShellReach.of(mol, AO_CUTOFF, deriv)
        order = compact_order(
            reach.centres, grids.coords[used], self._bounds, lambda r: reach.cost(r, self._bounds)
        )
        used = used if order is None else used[order]
        self.coords = np.ascontiguousarray(grids.coords[used])
        self.weights = np.ascontiguousarray(grids.weights[used])
        self._engine = make_engine(
            ao_engine, mol, reach.basis, self.coords, deriv=deriv, device=self.device
        )
        self.stackable = isinstance(self._engine, TorchAO) and not on_cpu
        self._shells = reach.shells(self.coords, self._bounds)
        self._shell_sizes = reach.sizes
        self._points = [slice(*pair) for pair in pairwise(self._bounds)]
        self.source = BlockSource(
            reach.basis,
            reach.centres,
            reach.sizes,
            self._shells,
            self._points,
            self.coords,
            self.weights,
        )
        self._limit = int(ao_memory_mb * 1e6)
        values = np.diff(self._bounds) @ (self._shells @ self._shell_sizes) * self.ncomp
        self._needed = 8 * int(values)
        bound = None
        short = choose_precision(self._needed, self._limit) == "mixed"
        if short and self._limit and allow_float32:
            ovlp = as_tensor(mol.intor_symmetric("int1e_ovlp"), self.device)
            kept = lindep_threshold() if lindep is None else lindep
            bound = rounding_bound(ovlp, kept, self.n_blocks)
        self._store = AOStore(self.memory_bytes, bound)
        self.beside: AOGrid | None = None

    @functools.cached_property
    def _weights(self) -> Tensor:
        return as_tensor(self.weights, self.device)

    @property
    def memory_bytes(self) -> int:
        """Most bytes that kept blocks can take."""
        return min(self._limit, self._needed)

    @property
    def kept_bytes(self) -> int:
        """Bytes of AO values kept so far."""
        return self._store.used_bytes

    def keep_nothing(self) -> None:
        """Evaluate blocks at every call from now on: for who goes over them once.

        Memory for values that nobody reads again costs more time than they do.
        """
        self._store = AOStore(0)

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
        kept = self._store.find(k)
        if kept is None:
            kept = self._store.offer(k, self._evaluate(k), self._taken())
        return kept

    def single(self, k: int) -> AOBlock:
        """Block ``k`` in float32; kept so where the exact values are not.

        Args:
            k: 0 <= k < n_blocks.

        Returns:
            The block, its weights in float64.
        """
        kept = self._store.find_single(k)
        if kept is None:
            kept = self._store.offer_single(k, self._evaluate(k), self._taken())
        return kept

    def _taken(self) -> int:
        """Bytes of the limit that the other grid has.

        Two grids keep no more than the larger one alone; its last blocks are made again.
        """
        return 0 if self.beside is None else self.beside.kept_bytes

    def shape(self, k: int) -> tuple[int, int]:
        """Points and columns of a block."""
        points = self._points[k]
        return points.stop - points.start, int(self._shell_sizes[self._shells[k]].sum())

    def stacked(self, blocks: "Sequence[tuple[AOGrid, int]]", nao: int) -> AOStack:
        """Blocks of several grids in one go, in float64 and not kept.

        Args:
            blocks: Grids with the same derivatives and device as this one, and numbers of blocks.
            nao: Index of columns that are not there.

        Returns:
            The stack.
        """
        sources = [(grid.source, k) for grid, k in blocks]
        return make_stack(sources, nao, deriv=self.deriv, device=self.device)

    def _evaluate(self, k: int) -> AOBlock:
        points = self._points[k]
        rows = self._engine.rows(points, self._shells[k])
        return AOBlock(ao=rows.mT, index=self._index(k), weights=self._weights[points])

    def _index(self, k: int) -> Tensor | None:
        """AO numbers of the shells that reach a block; None for all of them."""
        if self._shells[k].all():
            return None
        numbers = np.flatnonzero(np.repeat(self._shells[k], self._shell_sizes))
        return torch.from_numpy(numbers).to(self.device)


def _block_bounds(
    ngrids: int, ncomp: int, nao: int, block_memory_mb: float, *, cached: bool
) -> list[int]:
    """Equal blocks that fit memory and, if asked and not too small, the processor's cache."""
    size = min(int(block_memory_mb * 1e6) // max(ncomp * nao * 8, 1), MAX_BLOCK_POINTS)
    if cached:
        size = min(size, max(int(CACHE_MB * 1e6) // max(nao * 8, 1), CACHED_BLOCK_POINTS))
    n_blocks = max(-(-ngrids // max(size, MIN_BLOCK_POINTS)), 1)
    return [round(i * ngrids / n_blocks) for i in range(n_blocks + 1)]
