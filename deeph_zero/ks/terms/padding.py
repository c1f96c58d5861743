"""Molecules of different sizes as stacks of equal matrices.

The orbitals added do nothing: no overlap with the others, no integrals, no values on the grid.
"""

from collections.abc import Hashable, Sequence
from typing import Any, final

import torch
from torch import Tensor
from torch.nn.functional import pad

from deeph_zero.types import MoleculeMatrix, SpinMatrix


def padded(matrices: Sequence[Tensor], rows: int, columns: int) -> Tensor:
    """Stack of matrices, zeros below and to the right; differentiable."""
    return torch.stack([widened(m, rows, columns) for m in matrices])


def widened(matrix: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix with zeros below and to the right; itself where it has that size."""
    missing = rows - matrix.shape[-2], columns - matrix.shape[-1]
    return pad(matrix, (0, missing[1], 0, missing[0])) if any(missing) else matrix


@final
class Padding:
    """The sizes of several molecules, and what terms of their stacks share.

    Attributes:
        naos: Orbitals of each molecule.
        nao: Orbitals of the padded matrices.
        shared: Large tensors that more than one term uses, by whatever tells them apart.
    """

    def __init__(self, naos: Sequence[int], nao: int = 0) -> None:
        """Take the largest molecule's size.

        Args:
            naos: Orbitals of each molecule.
            nao: Orbitals of the padded matrices at least.
        """
        self.naos = tuple(naos)
        self.nao = max(nao, *naos)
        self.shared: dict[Hashable, Any] = {}

    def stack(self, matrices: Sequence[MoleculeMatrix]) -> SpinMatrix:
        """[nmol, nspin, nao, nao] of matrices with a spin axis, or of [n, n] for all spins."""
        return padded(matrices, self.nao, self.nao).reshape(len(self.naos), -1, self.nao, self.nao)

    def split(self, stacked: SpinMatrix) -> list[MoleculeMatrix]:
        """Each molecule's own part of a stack, [nspin, n, n]."""
        return [one[:, :n, :n] for one, n in zip(stacked, self.naos, strict=True)]
