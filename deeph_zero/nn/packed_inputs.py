"""Network inputs of one geometry while they wait: a third of the memory, and the same bits back.

A block has room for the largest atom's orbitals, so that most of the numbers of a hydrogen are
zeros; and positions in short arrays do not need eight bytes.
"""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.nn.inputs import NetworkInputs

_SPARSE = ("node_inputs", "edge_inputs")
"""Fields [n, channel, component] with many zeros."""
_WHOLE = ("numbers", "edge_index", "source", "partner", "node_graph")
_MADE = ("ao_wigner", "patterns")
"""Nearly all zeros; of the output's blocks their keys and places are kept in short arrays."""


@dataclasses.dataclass(frozen=True)
class _Sparse:
    """A tensor [n, a, b] without the columns (n, b) that are zero for every a."""

    bits: np.ndarray
    values: Tensor
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, x: Tensor) -> "_Sparse":
        n, a, b = x.shape
        mask = (x != 0).any(1).flatten()
        values = x.transpose(1, 2).reshape(n * b, a)[mask]
        return cls(np.packbits(mask.numpy()), values, (n, a, b))

    def dense(self) -> Tensor:
        n, a, b = self.shape
        mask = np.unpackbits(self.bits, count=n * b)
        where = torch.from_numpy(np.flatnonzero(mask))
        out = self.values.new_zeros(n * b, a).index_copy_(0, where, self.values)
        return out.view(n, b, a).transpose(1, 2).contiguous()

    @property
    def nbytes(self) -> int:
        return self.bits.nbytes + self.values.nbytes


class PackedInputs:
    """:class:`~deeph_zero.nn.inputs.NetworkInputs` of one molecule on the CPU, packed."""

    def __init__(self, inputs: NetworkInputs) -> None:
        """Pack.

        Args:
            inputs: Those of one molecule, not of a batch.
        """
        self._sparse = {name: _Sparse.of(getattr(inputs, name)) for name in _SPARSE}
        self._turn = _Sparse.of(inputs.ao_wigner.flatten(1).unsqueeze(1))
        (pattern,) = inputs.patterns
        self._sizes = pattern.sizes
        self._keys = _shortest(torch.cat([pattern.pairs, pattern.cells], 1))
        self._places = _shortest(pattern.dense_places)
        self._whole = {name: _shortest(getattr(inputs, name)) for name in _WHOLE}
        others = {f.name for f in dataclasses.fields(inputs)} - {*_SPARSE, *_WHOLE, *_MADE}
        self._rest: dict[str, Any] = {name: getattr(inputs, name) for name in sorted(others)}

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        rest = (x for value in self._rest.values() for x in _tensors(value))
        parts = (
            *self._sparse.values(),
            self._turn,
            self._keys,
            self._places,
            *self._whole.values(),
            *rest,
        )
        return sum(part.nbytes for part in parts)

    @property
    def pattern(self) -> BlockPattern:
        """Blocks of the output."""
        keys = self._keys.long()
        pattern = BlockPattern(keys[:, :2].contiguous(), keys[:, 2:].contiguous(), self._sizes)
        return pattern.recalled(self._places.long())

    def unpack(self) -> NetworkInputs:
        """The inputs as they were, bit by bit (a negative zero comes back positive)."""
        sparse = {name: part.dense() for name, part in self._sparse.items()}
        whole = {name: part.long() for name, part in self._whole.items()}
        turn = self._turn.dense().squeeze(1)
        dim = round(turn.shape[1] ** 0.5)
        made: dict[str, Any] = {
            "ao_wigner": turn.view(-1, dim, dim),
            "patterns": (self.pattern,),
        }
        return NetworkInputs(**sparse, **whole, **self._rest, **made)


def _shortest(x: Tensor) -> Tensor:
    """Whole numbers in the smallest integer type that holds them."""
    largest = int(x.max()) if x.numel() else 0
    if largest < 2**15:
        return x.to(torch.int16)
    return x.to(torch.int32) if largest < 2**31 else x


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, tuple):
        return [x for x in value if isinstance(x, Tensor)]
    return [value] if isinstance(value, Tensor) else []
