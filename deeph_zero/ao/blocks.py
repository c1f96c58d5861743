"""AO matrices <-> padded atom-pair blocks <-> irreps of O(3), both ways.

A block of (l1, l2) shells is the tensor product of two natural-parity irreps: it holds
L = |l1-l2|..l1+l2, all of parity (-1)^(l1+l2) (p-d gives 1o, 2o, 3o; 2o is a pseudo-tensor).
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from deeph_zero.ao.coupling import wigner_3j
from deeph_zero.ao.shells import BasisLayout

IrrepKey = tuple[int, int]
"""(L, parity) with parity +1 or -1."""


def ao_rows(layout: BasisLayout, numbers: Sequence[int]) -> Int[Tensor, "natm dim"]:
    """Global AO index (PySCF order) of each slot of each atom; nao marks an empty slot.

    Args:
        layout: Shells of the elements.
        numbers: Atomic numbers, [natm].

    Returns:
        Row numbers of an AO matrix padded by one empty row and column.

    Raises:
        InputError: If an element is not in the layout.
    """
    nao = layout.nao(numbers)
    rows = torch.full((len(numbers), layout.dim), nao, dtype=torch.long)
    start = 0
    for atom, z in enumerate(numbers):
        slots = layout.ao_slots(int(z))
        rows[atom, list(slots)] = torch.arange(start, start + len(slots))
        start += len(slots)
    return rows


def gather_blocks(
    matrix: Float[Tensor, "*batch nao nao"],
    rows: Int[Tensor, "natm dim"],
    pairs: Int[Tensor, "2 npair"],
) -> Float[Tensor, "*batch npair dim dim"]:
    """Blocks (i, j) of AO matrices in slot order, zero where a slot is empty."""
    padded = torch.nn.functional.pad(matrix, (0, 1, 0, 1))
    return padded[..., rows[pairs[0]][:, :, None], rows[pairs[1]][:, None, :]]


def block_positions(
    rows: Int[Tensor, "natm dim"], pairs: Int[Tensor, "2 npair"], nao: int
) -> tuple[Int[Tensor, " nelement"], Int[Tensor, " nelement"]]:
    """Where the filled elements of blocks sit: in the flat blocks, and in the flat matrix.

    Args:
        rows: From :func:`ao_rows`.
        pairs: Atoms (i, j) of each block; no pair twice.
        nao: Number of AOs of the molecule.

    Returns:
        (source, target) with ``matrix.view(-1)[target] = blocks.view(-1)[source]``.
    """
    row, col = rows[pairs[0]][:, :, None], rows[pairs[1]][:, None, :]
    filled = ((row < nao) & (col < nao)).reshape(-1)
    return filled.nonzero()[:, 0], (row * nao + col).reshape(-1)[filled]


def scatter_blocks(
    blocks: Float[Tensor, "npair dim dim"],
    rows: Int[Tensor, "natm dim"],
    pairs: Int[Tensor, "2 npair"],
    nao: int,
) -> Float[Tensor, "nao nao"]:
    """Inverse of :func:`gather_blocks` for distinct pairs; blocks not given are zero."""
    source, target = block_positions(rows, pairs, nao)
    flat = blocks.new_zeros(nao * nao).index_copy(0, target, blocks.reshape(-1)[source])
    return flat.view(nao, nao)


@functools.cache
def clebsch_gordan(l1: int, l2: int, l: int) -> Float[Tensor, "m1 m2 m"]:
    """Real coupling coefficients in float64, orthonormal over (m1, m2)."""
    return wigner_3j(l1, l2, l) * math.sqrt(2 * l + 1)


@dataclasses.dataclass(frozen=True)
class IrrepBasis:
    """Orthogonal change of basis between flat blocks and irreps.

    Attributes:
        keys: ((L, parity), multiplicity) of each group, sorted.
        matrix: [dim*dim, dim*dim]; a row is a block element, a column an irrep component. Columns
            run over groups, then components m = -L..L, then instances.
    """

    keys: tuple[tuple[IrrepKey, int], ...]
    matrix: Float[Tensor, "full full"]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Columns of each group."""
        return tuple((2 * key[0] + 1) * mult for key, mult in self.keys)

    def to_irreps(self, blocks: Float[Tensor, "*batch dim dim"]) -> list[Tensor]:
        """Blocks as one tensor [..., 2L+1, multiplicity] per group."""
        flat = blocks.flatten(-2) @ self.matrix.to(blocks)
        return split_irreps(flat, self.keys)

    def from_irreps(self, irreps: Sequence[Tensor]) -> Float[Tensor, "*batch dim dim"]:
        """Inverse of :meth:`to_irreps`."""
        flat = torch.cat([t.flatten(-2) for t in irreps], -1) @ self.matrix.to(irreps[0]).mT
        dim = math.isqrt(flat.shape[-1])
        return flat.unflatten(-1, (dim, dim))


def split_irreps(flat: Tensor, keys: Sequence[tuple[IrrepKey, int]]) -> list[Tensor]:
    """Views [..., 2L+1, multiplicity] of a flat irrep vector."""
    parts = flat.split([(2 * key[0] + 1) * mult for key, mult in keys], -1)
    return [
        t.unflatten(-1, (2 * key[0] + 1, mult)) for t, (key, mult) in zip(parts, keys, strict=True)
    ]


@functools.cache
def irrep_matrix(
    layout: BasisLayout, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "full full"]:
    """:attr:`IrrepBasis.matrix` cast from float64 once per type and device."""
    return irrep_basis(layout).matrix.to(device=device, dtype=dtype)


@functools.cache
def irrep_basis(layout: BasisLayout) -> IrrepBasis:
    """The Clebsch-Gordan change of basis of a layout's full block."""
    dim, shells = layout.dim, layout.slot_shells
    starts = [0, *itertools.accumulate(2 * l + 1 for l in shells)]
    columns: dict[IrrepKey, list[Tensor]] = {}
    for (a, l1), (b, l2) in itertools.product(enumerate(shells), repeat=2):
        for l in range(abs(l1 - l2), l1 + l2 + 1):
            block = torch.zeros(dim, dim, 2 * l + 1, dtype=torch.float64)
            rows, cols = slice(starts[a], starts[a + 1]), slice(starts[b], starts[b + 1])
            block[rows, cols] = clebsch_gordan(l1, l2, l)
            key = (l, 1 if (l1 + l2) % 2 == 0 else -1)
            columns.setdefault(key, []).append(block.reshape(dim * dim, -1))
    keys = sorted(columns)
    matrix = torch.cat([torch.stack(columns[k], -1).flatten(1) for k in keys], 1)
    return IrrepBasis(keys=tuple((k, len(columns[k])) for k in keys), matrix=matrix)
