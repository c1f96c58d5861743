"""Semilocal exchange and correlation: E_xc = Σ w f(ρ, ∇ρ, τ) on a grid, one molecule."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks.grid.maps import (
    density_features,
    orbital_features,
    potential_matrix,
    restrict,
    stacked,
)
from deeph_zero.ks.linalg.factor import occupied_columns
from deeph_zero.ks.parallel.sharing import available_threads, share
from deeph_zero.ks.protocol import NVAR, AOBlock, Functional, Grid, KSData, XCKind
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.semilocal_padded import PaddedSemilocal
from deeph_zero.ks.terms.term import Contribution, Density, Responses, Term
from deeph_zero.types import Features, SpinMatrix

R = TypeVar("R")

GROUP_POINTS = 32768
GROUP_MEMORY_MB = 8.0
"""Bounds of the points that one call of the functional covers, and of their AO values where the
grid does not hold them anyway."""

KERNEL_MEMORY_MB = 400.0
"""Most that the second derivatives on all points may take where many responses use them."""

SHARED_VALUES = 600_000
"""AO values (points times orbitals) from which threads share a grid: the work of milliseconds."""


class Semilocal(Term):
    """A functional on a grid.

    Attributes:
        functional: Pointwise.
        grid: AO values and weights.
    """

    name = "e_xc"
    on_grid = True

    def __init__(self, functional: Functional, grid: Grid) -> None:
        """Hold both.

        Args:
            functional: Pointwise.
            grid: AO values and weights.
        """
        self.functional = functional
        self.grid = grid

    @classmethod
    def of(cls, data: KSData) -> "Semilocal | None":
        """The term of a molecule; None for Hartree-Fock."""
        grid = data.grid
        return None if data.functional is None or grid is None else cls(data.functional, grid)

    def energy_and_fock(self, at: Density) -> Contribution:
        """E_xc, v_xc and the electrons on the grid."""
        kind = self.functional.kind
        density = DensityOnGrid(at, kind)

        def work(blocks: list[AOBlock], out: SpinMatrix) -> tuple[Tensor, Tensor]:
            weights = torch.cat([block.weights for block in blocks])
            rho = torch.cat([density.features(block) for block in blocks], dim=-1)
            energy, potential = self.functional.gradient(rho)
            add_potential_(out, blocks, potential * weights, kind)
            return weights @ energy, (rho[..., 0, :] @ weights).sum()

        out, zero = torch.zeros_like(at.dm), at.dm.new_zeros(())
        parts = sum_over_groups_(out, self.grid, work)
        electrons = sum((n for _, n in parts), zero)
        return Contribution(sum((e for e, _ in parts), zero), out, electrons)

    def response(self, at: Density, along: Density) -> SpinMatrix:
        """f_xc times the change of the density variables."""
        return self._derivative(self.functional.second, at, along)

    def second(self, at: Density, d1: Density, d2: Density) -> SpinMatrix:
        """The third functional derivative along two changes."""
        return self._derivative(self.functional.third, at, d1, d2)

    def _derivative(
        self, derivative: Callable[..., Features], at: Density, *directions: Density
    ) -> SpinMatrix:
        kind = self.functional.kind
        density = DensityOnGrid(at, kind)

        def work(blocks: list[AOBlock], out: SpinMatrix) -> None:
            weights = torch.cat([block.weights for block in blocks])
            rho = torch.cat([density.features(block) for block in blocks], dim=-1)
            changes = [features_of(one, blocks, kind) for one in directions]
            add_potential_(out, blocks, derivative(rho, *changes) * weights, kind)

        out = torch.zeros_like(at.dm)
        sum_over_groups_(out, self.grid, work)
        return out

    def linearised(self, at: Density) -> Responses:
        """f_xc on every point, made once; where it takes too much memory, made every time."""
        kind = self.functional.kind
        rows = NVAR[kind] * at.dm.shape[-3]
        if 8 * rows**2 * self.grid.ngrids > KERNEL_MEMORY_MB * 1e6:
            return super().linearised(at)
        density = DensityOnGrid(at, kind)
        threads = available_threads() if at.dm.device.type == "cpu" else 1
        kernels = [
            kernel(self.functional, torch.cat([density.features(b) for b in blocks], dim=-1))
            for blocks in block_groups(self.grid, threads)
        ]

        def responses(changes: Sequence[Density]) -> Sequence[SpinMatrix]:
            like = torch.stack([one.dm for one in changes])

            def work(piece: tuple[list[AOBlock], Tensor]) -> Tensor:
                blocks, own = piece
                weights = torch.cat([block.weights for block in blocks])
                found = torch.zeros_like(like)
                for one, matrix in zip(changes, found, strict=True):
                    change = features_of(one, blocks, kind)
                    moved = torch.einsum("ijp,jp->ip", own, change.reshape(rows, -1))
                    add_potential_(matrix, blocks, moved.reshape(change.shape) * weights, kind)
                return found

            out = torch.zeros_like(like)
            groups = zip(block_groups(self.grid, threads), kernels, strict=True)
            share(work, groups, out.add_, on_cpu=threads > 1)
            return out.unbind(0)

        return responses

    @classmethod
    def stacked(cls, terms: "Sequence[Semilocal | None]", padding: Padding) -> Term:
        """Blocks of all molecules in stacks of one shape; each has the same functional."""
        own = [term for term in terms if term is not None]
        return PaddedSemilocal(own[0].functional, [term.grid for term in own], padding)


def kernel(functional: Functional, rho: Features) -> Float[Tensor, "rows rows ngrids"]:
    """Second derivative of f with respect to the density variables of all spins.

    Args:
        functional: Pointwise.
        rho: Where.

    Returns:
        Symmetric in its first two axes, which run over spins and their variables.
    """
    rows = rho.shape[:-1].numel()
    unit = rho.new_zeros(rows, rho.shape[-1])
    columns = []
    for k in range(rows):
        unit[k] = 1.0
        columns.append(functional.second(rho, unit.reshape(rho.shape)).reshape(rows, -1))
        unit[k] = 0.0
    return torch.stack(columns, dim=1)


def features_of(change: Density, blocks: Sequence[AOBlock], kind: XCKind) -> Features:
    """Density variables of a change on the points of several blocks.

    Args:
        change: Any symmetric matrices.
        blocks: The points.
        kind: Which variables to make.

    Returns:
        As a functional takes them.
    """
    parts = [density_features(block, restrict(change.dm, block), kind) for block in blocks]
    return torch.cat(parts, dim=-1)


class DensityOnGrid:
    """Density variables of one density matrix, through its orbitals where they are few."""

    def __init__(self, at: Density, kind: XCKind, dtype: torch.dtype = torch.float64) -> None:
        """Keep what makes the variables.

        Args:
            at: The density.
            kind: Which variables to make.
            dtype: That of the blocks' AO values.
        """
        self._dm = at.dm.to(dtype)
        self._kind: XCKind = kind
        channels = [occupied_columns(one) for one in at.factors or ()]
        self._orbitals = [one.to(dtype) for one in channels if one is not None]
        self._factored = at.factors is not None and len(self._orbitals) == len(channels)

    def features(self, block: AOBlock) -> Features:
        """The variables as a functional takes them."""
        if not self._factored:
            return density_features(block, restrict(self._dm, block), self._kind)
        index = block.index
        rows = [c if index is None else c[index] for c in self._orbitals]
        return stacked([orbital_features(block, c, self._kind) for c in rows])


def sum_over_groups_(
    out: SpinMatrix, grid: Grid, work: Callable[[list[AOBlock], SpinMatrix], R]
) -> list[R]:
    """Let threads share the grid, each with blocks of its own.

    Args:
        out: Matrix to which every call of ``work`` adds a part; summed in the order of the blocks,
            so that the result depends on the number of threads but not on their timing.
        grid: The grid.
        work: Gets some blocks and the matrix to add to.

    Returns:
        What the calls returned, in order.
    """
    threads = available_threads() if out.device.type == "cpu" else 1
    if threads == 1 or grid.ngrids * grid.nao < SHARED_VALUES:
        return [work(blocks, out) for blocks in block_groups(grid)]
    found: list[R] = []

    def with_matrix(blocks: list[AOBlock]) -> tuple[R, SpinMatrix]:
        matrix = torch.zeros_like(out)
        return work(blocks, matrix), matrix

    def use(result: tuple[R, SpinMatrix]) -> None:
        found.append(result[0])
        out.add_(result[1])

    share(with_matrix, block_groups(grid, threads), use)
    return found


def add_potential_(
    out: SpinMatrix, blocks: Sequence[AOBlock], potential: Tensor, kind: XCKind
) -> None:
    """Add the matrix of a weighted potential on the points of several blocks."""
    sizes = [len(block.weights) for block in blocks]
    for block, part in zip(blocks, potential.split(sizes, dim=-1), strict=True):
        _scatter_add_(out, potential_matrix(block, part, kind), block)


def block_groups(grid: Grid, threads: int = 1) -> Iterator[list[AOBlock]]:
    """All blocks of a grid, in groups that one call of the functional takes.

    Small blocks leave out more AOs and stay in the cache; a functional wants many points at once.

    Args:
        grid: The grid.
        threads: How many share the groups; several get about as many points each.

    Yields:
        Blocks with at most ``GROUP_POINTS`` points and ``GROUP_MEMORY_MB`` of AO values made for
        them alone (but at least one block).
    """
    limit = GROUP_POINTS
    if threads > 1:
        rounds = -(-grid.ngrids // (threads * GROUP_POINTS))
        # half a block more: a group ends at the block nearest to its share
        half = grid.ngrids / max(grid.n_blocks, 1) / 2
        limit = grid.ngrids / max(threads * rounds, 1) + half
    group: list[AOBlock] = []
    points = nbytes = 0
    for k in range(grid.n_blocks):
        block = grid.block(k)
        new_points = len(block.weights)
        new_bytes = 0 if block.kept else block.ao.numel() * block.ao.element_size()
        full = points + new_points > limit or nbytes + new_bytes > GROUP_MEMORY_MB * 1e6
        if group and full:
            yield group
            group, points, nbytes = [], 0, 0
        group.append(block)
        points += new_points
        nbytes += new_bytes
    if group:
        yield group


def _scatter_add_(matrix: SpinMatrix, local: Tensor, block: AOBlock) -> None:
    if block.index is None:
        matrix += local
    else:
        lead, nao = matrix.shape[:2]
        flat = (block.index.unsqueeze(1) * nao + block.index).reshape(-1)
        part = local.reshape(lead, -1).to(matrix.dtype)
        matrix.view(lead, -1).index_add_(1, flat, part)
