"""Grid points of several molecules in stacks of equal blocks: densities and potentials of all."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.ks.parallel.uploads import sent
from deeph_zero.ks.protocol import (
    NVAR,
    AOBlock,
    AOStack,
    Functional,
    Grid,
    StackableGrid,
    XCKind,
)

STACK_MB = 256.0
"""AO values of one stack of blocks."""
WASTE = 0.7
"""A block joins a stack whose largest block has at most 1 / WASTE as many AOs."""

Matrices = Float[Tensor, "nmol nspin nao nao"]
PerMolecule = Float[Tensor, " nmol"]


@dataclasses.dataclass(frozen=True)
class _Stack:
    """Blocks padded to one shape; padding points have no weight, padding AOs no values."""

    ao: Float[Tensor, "ncomp nblk 1 npoints nloc"]
    weights: Float[Tensor, "nblk npoints"]
    index: Int[Tensor, "nblk nloc"]
    molecule: Int[Tensor, " nblk"]
    _places: dict[tuple[int, int], Tensor] = dataclasses.field(default_factory=dict)

    def places(self, nspin: int, wide: int) -> Int[Tensor, " nelement"]:
        """Where the elements of all blocks' matrices are in those of the molecules, made once."""
        key = nspin, wide
        if key not in self._places:
            rows, columns = self.index.unsqueeze(2), self.index.unsqueeze(1)
            spins = torch.arange(nspin, device=self.index.device).reshape(1, -1, 1, 1)
            first = self.molecule.reshape(-1, 1, 1, 1) * nspin + spins
            flat = (first * wide + rows.unsqueeze(1)) * wide + columns.unsqueeze(1)
            self._places[key] = flat.reshape(-1)
        return self._places[key]


class PaddedGrid:
    """The grids of several molecules."""

    def __init__(self, grids: Sequence[Grid], nao: int) -> None:
        """Stack all blocks; their AO values are held.

        Args:
            grids: One per molecule.
            nao: Orbitals of the padded matrices.
        """
        self._nao = nao
        self._stacks: list[_Stack] = []
        group: list[_Entry] = []
        # from the widest down: the first of a group sets its width
        for one in sorted(_entries(grids), key=lambda one: -one.columns):
            if group and not _fits(group, one):
                self._stacks.append(self._stacked(grids, group))
                group = []
            group.append(one)
        if group:
            self._stacks.append(self._stacked(grids, group))

    def _stacked(self, grids: Sequence[Grid], group: Sequence["_Entry"]) -> _Stack:
        owners = [one.molecule for one in group]
        first = grids[owners[0]]
        if isinstance(first, StackableGrid) and first.stackable:
            blocks = cast("Any", [(grids[one.molecule], one.number) for one in group])
            found = first.stacked(blocks, self._nao)
        else:
            found = _joined([one.block for one in group if one.block is not None], self._nao)
        molecule = sent(torch.tensor(owners), found.weights.device)
        return _Stack(found.ao.unsqueeze(2), found.weights, found.index, molecule)

    def potential(
        self, functional: Functional, dm: Matrices
    ) -> tuple[Matrices, PerMolecule, PerMolecule]:
        """v_xc, E_xc and the number of electrons of every molecule.

        Args:
            functional: Semilocal functional.
            dm: Padded density matrices, one "spin" for a closed shell.

        Returns:
            Matrices as ``dm``, Eh; energies, Eh; electrons.
        """
        e_xc, count = dm.new_zeros(len(dm)), dm.new_zeros(len(dm))

        def evaluate(stack: _Stack, rho: Tensor) -> Tensor:
            energy, potential = functional.gradient(rho)
            shape = stack.weights.shape
            e_xc.index_add_(0, stack.molecule, (energy.reshape(shape) * stack.weights).sum(1))
            density = rho[..., 0, :].reshape(-1, *shape).sum(0)
            count.index_add_(0, stack.molecule, (density * stack.weights).sum(1))
            return potential

        return self._sum(functional.kind, (dm,), evaluate), e_xc, count

    def response(self, functional: Functional, dm: Matrices, along: Matrices) -> Matrices:
        """f_xc · rho[along] as matrices.

        Args:
            functional: Semilocal functional.
            dm: Padded density matrices.
            along: Padded symmetric directions.

        Returns:
            Matrices as ``dm``, Eh.
        """

        def evaluate(_: _Stack, *rows: Tensor) -> Tensor:
            return functional.second(*rows)

        return self._sum(functional.kind, (dm, along), evaluate)

    def second(self, functional: Functional, dm: Matrices, d1: Matrices, d2: Matrices) -> Matrices:
        """The third functional derivative along two changes, as matrices.

        Args:
            functional: Semilocal functional.
            dm: Padded density matrices.
            d1: Padded symmetric directions.
            d2: Further ones.

        Returns:
            Matrices as ``dm``, Eh.
        """

        def evaluate(_: _Stack, *rows: Tensor) -> Tensor:
            return functional.third(*rows)

        return self._sum(functional.kind, (dm, d1, d2), evaluate)

    def _sum(
        self, kind: XCKind, matrices: Sequence[Tensor], evaluate: Callable[..., Tensor]
    ) -> Tensor:
        """Adjoint of the density variables, applied to what ``evaluate`` makes of them."""
        n_mol, nspin, nao = matrices[0].shape[:3]
        out = matrices[0].new_zeros(n_mol, nspin, nao + 1, nao + 1)
        for stack in self._stacks:
            rows = [_rows(_features(stack, _local(stack, one), kind)) for one in matrices]
            potential = evaluate(stack, *rows)
            nblk, npoints = stack.weights.shape
            parts = potential.reshape(nspin, NVAR[kind], nblk, npoints) * stack.weights
            _add_(out, stack, _matrices(stack, parts.permute(2, 0, 1, 3), kind))
        return out[..., :nao, :nao]


class _Entry(NamedTuple):
    """One block of one molecule, before it is stacked; made already where it cannot be later."""

    molecule: int
    number: int
    ncomp: int
    points: int
    columns: int
    block: AOBlock | None


def _entries(grids: Sequence[Grid]) -> Iterator[_Entry]:
    together = all(isinstance(grid, StackableGrid) and grid.stackable for grid in grids)
    for k, grid in enumerate(grids):
        for j in range(grid.n_blocks):
            if together and isinstance(grid, StackableGrid):
                yield _Entry(k, j, grid.ncomp, *grid.shape(j), None)
            else:
                block = grid.block(j)
                ncomp, points, columns = block.ao.shape
                yield _Entry(k, j, ncomp, points, columns, block)


def _joined(blocks: Sequence[AOBlock], nao: int) -> AOStack:
    """Blocks that exist already."""
    first = blocks[0].ao
    npoints = max(block.ao.shape[1] for block in blocks)
    nloc = max(block.ao.shape[2] for block in blocks)
    ao = first.new_zeros(first.shape[0], len(blocks), npoints, nloc)
    weights = first.new_zeros(len(blocks), npoints)
    # the padded matrices get one more row and column of zeros for what is not there
    index = torch.full((len(blocks), nloc), nao, device=first.device)
    for k, block in enumerate(blocks):
        points, columns = block.ao.shape[1:]
        ao[:, k, :points, :columns] = block.ao
        weights[k, :points] = block.weights
        own = torch.arange(columns, device=first.device) if block.index is None else block.index
        index[k, :columns] = own
    return AOStack(ao=ao, weights=weights, index=index)


def _fits(group: Sequence[_Entry], one: _Entry) -> bool:
    """Whether a stack may grow by a block, narrower than its first one."""
    columns = group[0].columns
    npoints = max(one.points, *(other.points for other in group), 0)
    size = 8 * (len(group) + 1) * one.ncomp * npoints * columns / 1e6
    return size <= STACK_MB and one.columns >= WASTE * columns


def _local(stack: _Stack, matrix: Tensor) -> Tensor:
    """Rows and columns of each block's AOs, [nblk, nspin, nloc, nloc]."""
    wide = torch.nn.functional.pad(matrix, (0, 1, 0, 1))
    rows, columns = stack.index.unsqueeze(2), stack.index.unsqueeze(1)
    return wide[stack.molecule[:, None, None], :, rows, columns].permute(0, 3, 1, 2)


def _features(stack: _Stack, dm: Tensor, kind: XCKind) -> Tensor:
    """Density variables, [nblk, nspin, nvar, npoints]; see ``grid_maps.density_features``."""
    ao = stack.ao
    half = ao[0] @ dm
    rows = [(half * ao[0]).sum(-1)]
    if kind != "LDA":
        twice = 2.0 * half
        rows += [(twice * ao[x]).sum(-1) for x in range(1, 4)]
    if kind == "MGGA":
        squares = [((ao[x] @ dm) * ao[x]).sum(-1) for x in range(1, 4)]
        rows.append(0.5 * (squares[0] + squares[1] + squares[2]))
    return torch.stack(rows, dim=2)


def _rows(features: Tensor) -> Tensor:
    """What a functional takes: all points in one row."""
    nblk, nspin, nvar, npoints = features.shape
    return features.permute(1, 2, 0, 3).reshape(nspin, nvar, nblk * npoints)


def _matrices(stack: _Stack, potential: Tensor, kind: XCKind) -> Tensor:
    """[nblk, nspin, nloc, nloc] of a weighted [nblk, nspin, nvar, npoints]."""
    ao, v = stack.ao, potential.unsqueeze(-1)
    mix = (0.5 * v[:, :, 0]) * ao[0]
    if kind != "LDA":
        for x in range(1, 4):
            mix = mix.addcmul_(v[:, :, x], ao[x])
    half = ao[0].mT @ mix
    if kind == "MGGA":
        for x in range(1, 4):
            half += ao[x].mT @ ((0.25 * v[:, :, 4]) * ao[x])
    return half + half.mT


def _add_(out: Tensor, stack: _Stack, local: Tensor) -> None:
    """Add each block's matrix to its molecule's."""
    nspin, wide = out.shape[1:3]
    out.view(-1).index_add_(0, stack.places(nspin, wide), local.reshape(-1))
