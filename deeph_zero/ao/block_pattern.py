"""Which blocks (i, j, R) a matrix has, and where each of their elements lies elsewhere."""

import dataclasses
import functools
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from deeph_zero.ao.blocks import ao_rows
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.types import Brief


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BlockPattern(Brief):
    """Blocks of unlike sizes, packed one behind the other; each row by row.

    Where elements lie is worked out once and kept, so that matrices of one pattern share it.

    Attributes:
        pairs: Atoms (i, j) of each block.
        cells: Lattice vector R of j's cell in units of the cell's vectors; zeros in a molecule.
        sizes: Number of AOs of each atom.
    """

    pairs: Int[Tensor, "nb 2"]
    cells: Int[Tensor, "nb 3"]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that the pieces fit.

        Raises:
            ValueError: If they do not.
        """
        natm = len(self.sizes)
        if len(self.pairs) != len(self.cells):
            raise ValueError(
                f"expected a cell for each of {len(self.pairs)} pairs, got {len(self.cells)}"
            )
        if len(self.pairs) and not (int(self.pairs.min()) >= 0 and int(self.pairs.max()) < natm):
            raise ValueError(
                f"expected atoms from 0 to {natm - 1}, got {int(self.pairs.min())} to "
                f"{int(self.pairs.max())}"
            )

    @classmethod
    def of_molecule(
        cls, sizes: Sequence[int], device: torch.device | str = "cpu"
    ) -> "BlockPattern":
        """Every pair of a molecule's atoms, R = 0, sorted by (i, j)."""
        atoms = torch.arange(len(sizes), device=device)
        pairs = (
            torch.cartesian_prod(atoms, atoms) if len(sizes) > 1 else atoms[:, None].repeat(1, 2)
        )
        return cls(pairs, torch.zeros_like(pairs[:, :1]).expand(-1, 3), tuple(sizes))

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self.pairs)

    @property
    def nao(self) -> int:
        """AOs of one cell."""
        return sum(self.sizes)

    @functools.cached_property
    def nel(self) -> int:
        """Elements of all blocks."""
        return int(self.offsets[-1])

    @functools.cached_property
    def offsets(self) -> Int[Tensor, " nb_plus_1"]:
        """Where each block begins among the elements, and the end of the last."""
        lengths = self._lengths
        return torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])

    @functools.cached_property
    def _sizes(self) -> Int[Tensor, " natm"]:
        return torch.tensor(self.sizes, dtype=torch.long, device=self.pairs.device)

    @property
    def _lengths(self) -> Int[Tensor, " nb"]:
        return self._sizes[self.pairs.long()].prod(1) if len(self) else self._sizes[:0]

    def elements(self) -> tuple[Tensor, Tensor, Tensor]:
        """The block of each element, and its row and column there."""
        lengths = self.offsets.diff()
        block = torch.arange(len(self), device=lengths.device).repeat_interleave(lengths)
        place = torch.arange(len(block), device=block.device) - self.offsets[:-1][block]
        width = self._sizes[self.pairs[:, 1].long()][block] if len(self) else place
        return block, place // width.clamp(min=1), place % width.clamp(min=1)

    @functools.cached_property
    def block_of(self) -> Int[Tensor, " nel"]:
        """The block of each element."""
        return self.elements()[0]

    def aos(self) -> tuple[Int[Tensor, " nel"], Int[Tensor, " nel"]]:
        """AO μ of the home cell and AO ν of cell R that each element belongs to."""
        block, row, column = self.elements()
        ends = self._sizes.cumsum(0)
        first = (ends - self._sizes)[self.pairs.long()]
        return first[:, 0][block] + row, first[:, 1][block] + column

    @functools.cached_property
    def dense_places(self) -> Int[Tensor, " nel"]:
        """Where each element lies in the flat dense matrix of its R."""
        row, column = self.aos()
        return row * self.nao + column

    @functools.cached_property
    def by_cell(self) -> tuple[Int[Tensor, "ncell 3"], Int[Tensor, " nel"]]:
        """The different R, and where each element lies in the flat dense matrices of them all."""
        cells, place = torch.unique(self.cells, dim=0, return_inverse=True)
        return cells, place[self.block_of] * self.nao**2 + self.dense_places

    @functools.cached_property
    def is_home(self) -> bool:
        """Whether every block has R = 0, as in a molecule."""
        return not bool(self.cells.any())

    @functools.cached_property
    def partners(self) -> Int[Tensor, " nb"]:
        """Position of (j, i, -R) for each block (i, j, R), -1 where it is not there.

        Returns:
            Positions.

        Raises:
            ValueError: If a block is there twice.
        """
        return self.find(self.pairs.flip(1), -self.cells)

    def find(self, pairs: Int[Tensor, "n 2"], cells: Int[Tensor, "n 3"]) -> Int[Tensor, " n"]:
        """Positions of given blocks, -1 where there is none.

        Args:
            pairs: Atoms (i, j).
            cells: R.

        Returns:
            Positions.

        Raises:
            ValueError: If a block of the pattern is there twice.
        """
        if not len(self):
            return torch.full_like(pairs[:, 0], -1)
        keys, order = self._sorted
        if bool((keys[1:] == keys[:-1]).any()):
            raise ValueError("expected every block (i, j, R) once, one is there twice")
        wanted = self._key(pairs, cells)
        place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        there = (keys[place] == wanted) & (cells.abs() <= self.cells.abs().max()).all(1)
        return torch.where(there, order[place], -1)

    def elements_of(
        self, pairs: Int[Tensor, "n 2"], cells: Int[Tensor, "n 3"]
    ) -> Int[Tensor, " nel_of_n"]:
        """Positions of the elements of given blocks, block by block.

        Args:
            pairs: Atoms (i, j).
            cells: R.

        Returns:
            Positions.

        Raises:
            ValueError: If one of them is not there.
        """
        found = self.find(pairs, cells)
        if bool((found < 0).any()):
            raise ValueError("expected blocks of this pattern, one is not there")
        return self.elements_in(found)

    def elements_in(self, blocks: Int[Tensor, " n"]) -> Int[Tensor, " nel_of_n"]:
        """Positions of the elements of the blocks at given positions, block by block."""
        starts, lengths = self.offsets[:-1][blocks], self.offsets.diff()[blocks]
        new = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        shift = (starts - new[:-1]).repeat_interleave(lengths)
        return torch.arange(int(new[-1]), device=shift.device) + shift

    @functools.cached_property
    def _sorted(self) -> tuple[Tensor, Tensor]:
        """Numbers of all keys, ascending, and which block each is."""
        return self._key(self.pairs, self.cells).sort(stable=True)

    def _key(self, pairs: Tensor, cells: Tensor) -> Int[Tensor, " nb"]:
        """One number for each (i, j, R)."""
        span = 2 * int(self.cells.abs().max()) + 1
        steps = self._sizes.new_tensor([span**3 * len(self.sizes), span**3])
        inside = self._sizes.new_tensor([span**2, span, 1])
        return (pairs * steps).sum(1) + ((cells + span // 2) * inside).sum(1)

    def adjoint_places(self) -> Int[Tensor, " nel"]:
        """Where each element goes inside its own block when the block is transposed."""
        block, row, column = self.elements()
        height = self._sizes[self.pairs[:, 0].long()][block] if len(self) else row
        return self.offsets[:-1][block] + column * height + row

    def reordered_places(self, places: Int[Tensor, " nao"]) -> Int[Tensor, " nel"]:
        """Where each element is found when the functions of every atom are in another order.

        Args:
            places: For each AO its position among the old ones of its atom.

        Returns:
            Positions.
        """
        block, (rows, columns) = self.block_of, self.aos()
        width = self._sizes[self.pairs[:, 1].long()][block] if len(self) else rows
        return self.offsets[:-1][block] + places[rows] * width + places[columns]

    def transposed(self) -> Int[Tensor, " nel"]:
        """Position of (j ν, i μ, -R) for each element (i μ, j ν, R).

        Returns:
            Positions.

        Raises:
            ValueError: If a block has no partner.
        """
        if bool((self.partners < 0).any()):
            raise ValueError("expected (j, i, -R) beside every block (i, j, R), one is missing")
        block, row, column = self.elements()
        height = self._sizes[self.pairs[:, 0].long()][block] if len(self) else row
        return self.offsets[:-1][self.partners][block] + column * height + row

    def slots(self, layout: BasisLayout, numbers: Sequence[int]) -> Int[Tensor, " nel"]:
        """Where each element lies in flat blocks [nb, dim, dim] of the layout's slots.

        Args:
            layout: Shells of the elements; functions are in PySCF's order.
            numbers: Atomic numbers.

        Returns:
            Positions.
        """
        table = ao_rows(layout, numbers).to(self.pairs.device)
        slot_of_ao = table.new_zeros(self.nao)
        filled = table < self.nao
        columns = torch.arange(layout.dim, device=table.device).expand_as(table)
        slot_of_ao[table[filled]] = columns[filled]
        row, column = self.aos()
        block = self.block_of
        return block * layout.dim**2 + slot_of_ao[row] * layout.dim + slot_of_ao[column]

    def recalled(self, dense_places: Int[Tensor, " nel"]) -> "BlockPattern":
        """This pattern with kept :attr:`dense_places`, so that they are not made again."""
        self.__dict__["dense_places"] = dense_places
        return self

    def to(self, device: torch.device | str | None) -> "BlockPattern":
        """This pattern on another device."""
        if device is None or self.pairs.device == torch.device(device):
            return self
        return BlockPattern(self.pairs.to(device), self.cells.to(device), self.sizes)
