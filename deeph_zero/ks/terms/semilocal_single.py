"""Semilocal exchange and correlation of one density after another, products in single precision.

Density variables are made from AO values and orbitals in float32, and so is the matrix of what the
potential has changed by since the density before. The functional and all sums over blocks are
float64. By what the first matrix is off all later ones are off: they are for an iteration that is
corrected from outside, as an SCF on two grids is.
"""

import dataclasses
from typing import cast

import torch
from torch import Tensor

from deeph_zero.ks.linalg.denormals import flushed_denormals
from deeph_zero.ks.protocol import NVAR, AOBlock, MoleculeData, SingleGrid
from deeph_zero.ks.terms.semilocal import (
    DensityOnGrid,
    Semilocal,
    add_potential_,
    sum_over_groups_,
)
from deeph_zero.ks.terms.term import Contribution, Density
from deeph_zero.types import SpinMatrix


class SingleSemilocal:
    """What a semilocal term gives at one density after another.

    The energy of ethanol (PBE/def2-SVP) is off by 1e-6 Eh, its first matrix by 3e-6 Eh of the
    orbital gradient, nearly all of it the same for each density; what differs between densities
    that are 1e-3 apart is 5e-8 Eh of the gradient. Most of the first error is made where the
    products of a block's points are added up, and is as large for a change of the potential as the
    change is.

    Attributes:
        name: The term's.
    """

    name = Semilocal.name

    def __init__(self, term: Semilocal) -> None:
        """Nothing is remembered yet.

        Args:
            term: On the processor, with a :class:`~deeph_zero.ks.protocol.SingleGrid`.
        """
        assert isinstance(term.grid, SingleGrid)
        self._functional = term.functional
        self._grid = _Rounded(term.grid)
        self._last: tuple[Tensor, SpinMatrix] | None = None

    def energy_and_fock(self, at: Density) -> Contribution:
        """E_xc, v_xc and the electrons on the grid, all float64.

        Args:
            at: The density; the next one should be like it.

        Returns:
            As :meth:`~deeph_zero.ks.terms.semilocal.Semilocal.energy_and_fock`, to single
            precision.
        """
        kind = self._functional.kind
        density = DensityOnGrid(at, kind, torch.float32)
        if self._last is None:
            none = at.dm.new_zeros(*at.dm.shape[:-2], NVAR[kind], self._grid.ngrids)
            self._last = none, torch.zeros_like(at.dm)
        potentials, matrix = self._last

        def work(blocks: list[AOBlock], out: SpinMatrix) -> tuple[Tensor, Tensor]:
            weights = torch.cat([block.weights for block in blocks])
            with flushed_denormals():
                rho = torch.cat([density.features(block) for block in blocks], dim=-1).double()
            energy, potential = self._functional.gradient(rho)
            start = cast("_Block", blocks[0]).start
            before = potentials[..., start : start + len(weights)]
            change = (potential - before).mul_(weights)
            before.copy_(potential)
            with flushed_denormals():
                add_potential_(out, blocks, change.float(), kind)
            return weights @ energy, (rho[..., 0, :] @ weights).sum()

        parts = sum_over_groups_(matrix, self._grid, work)
        energy, electrons = (torch.stack(one).sum() for one in zip(*parts, strict=True))
        return Contribution(energy, matrix.clone(), electrons)


def single_semilocal(data: MoleculeData) -> SingleSemilocal | None:
    """The term of a molecule's data in single precision.

    Args:
        data: Integrals, grid and functional.

    Returns:
        None without a functional, on another device than the processor, where the grid has no
        such values, or where a non-local term keeps the exact ones anyway.
    """
    term = Semilocal.of(data.plain())
    on_cpu = data.ovlp.device.type == "cpu"
    if term is None or data.nlc is not None or not (on_cpu and isinstance(term.grid, SingleGrid)):
        return None
    return SingleSemilocal(term)


@dataclasses.dataclass(frozen=True)
class _Block(AOBlock):
    """A block that knows the number of its first point."""

    start: int = 0


class _Rounded:
    """A grid's blocks in float32; a :class:`~deeph_zero.ks.protocol.Grid`."""

    def __init__(self, grid: SingleGrid) -> None:
        self.nao, self.ngrids, self.n_blocks = grid.nao, grid.ngrids, grid.n_blocks
        self._grid = grid
        self._starts = [0]
        for k in range(grid.n_blocks):
            self._starts.append(self._starts[-1] + grid.shape(k)[0])

    def block(self, k: int) -> AOBlock:
        block = self._grid.single(k)
        return _Block(block.ao, block.index, block.weights, block.kept, start=self._starts[k])
