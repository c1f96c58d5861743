"""What stays in memory of every geometry whatever happens to its integrals, made small."""

from typing import Any

import torch
from torch import Tensor

from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.ks.linalg.packed import pack_symmetric, unpack_symmetric
from deeph_zero.nn.inputs import NetworkInputs
from deeph_zero.nn.packed_inputs import PackedInputs
from deeph_zero.train.taught import Problem


class Waiting:
    """A matrix that is seldom used; its triangle, where it is exactly symmetric."""

    def __init__(self, matrix: Tensor) -> None:
        """Pack.

        Args:
            matrix: Any square matrix or matrices.
        """
        self._packed = torch.equal(matrix, matrix.mT)
        self._stored = pack_symmetric(matrix) if self._packed else matrix

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._stored.nbytes

    def matrix(self) -> Tensor:
        """As it was, bit by bit."""
        return unpack_symmetric(self._stored) if self._packed else self._stored


def packed(stored: NetworkInputs | PackedInputs) -> NetworkInputs | PackedInputs:
    """Network inputs that wait, packed where that is worth it.

    Args:
        stored: The inputs of a geometry.

    Returns:
        The inputs; packed if they are on a CPU.
    """
    if isinstance(stored, NetworkInputs) and stored.numbers.device.type == "cpu":
        return PackedInputs(stored)
    return stored


def light_bytes(problem: Problem) -> int:
    """What a geometry takes in any case: network inputs, small matrices, the teacher's memory.

    Args:
        problem: The geometry, its inputs after :func:`packed`.

    Returns:
        Bytes, with the teacher's memory full.
    """
    stored = problem.stored
    inputs = stored.nbytes if isinstance(stored, PackedInputs) else total_bytes(stored)
    data, matrix = problem.ks.data, problem.fock0.nbytes
    small = sum(Waiting(m).nbytes for m in (data.ovlp, data.hcore, data.dm_guess))
    label = total_bytes(problem.label) + matrix if problem.label is not None else 0
    # the teacher's triangles (Fock matrix, density, commutator); H₀, the target and its orbitals
    memory = (3 * problem.teacher.diis.space // 2 + 3) * matrix
    balance = total_bytes(problem.balance) if problem.balance is not None else 0
    return inputs + small + problem.ks.x.nbytes + label + memory + balance


def total_bytes(item: Any) -> int:
    """Bytes of the tensors among the attributes of a record, each storage once.

    Args:
        item: The record.

    Returns:
        Bytes.
    """
    found: dict[int, int] = {}
    for value in vars(item).values():
        for x in value if isinstance(value, tuple) else (value,):
            for tensor in vars(x).values() if isinstance(x, BlockPattern) else (x,):
                if isinstance(tensor, Tensor):
                    found[tensor.untyped_storage().data_ptr()] = tensor.nbytes
    return sum(found.values())
