"""Sums over the pairs of every atom: torch's own, or torch-scatter's on a GPU that has it.

On a GPU torch adds in the order in which its threads come; torch-scatter's segments are summed in
order, so that the same input gives the same bits. On a processor torch's own does, too.
"""

import functools
import importlib.util
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

Engine: TypeAlias = Literal["auto", "torch", "torch_scatter"]


def sum_to_atoms(
    values: Float[Tensor, "nedge n"],
    receiver: Int[Tensor, " nedge"],
    natm: int,
    engine: Engine = "auto",
) -> Float[Tensor, "natm n"]:
    """Sum the rows of every receiving atom.

    Args:
        values: One row per directed pair.
        receiver: Atom that each row belongs to, in ascending order.
        natm: Number of atoms; those without a pair get zeros.
        engine: "auto" takes torch-scatter for a GPU where it is installed, and torch otherwise.

    Returns:
        The sums.

    Raises:
        ImportError: If torch-scatter was asked for and is not installed.
    """
    if engine == "torch_scatter" or (engine == "auto" and values.is_cuda and installed()):
        from torch_scatter import segment_csr  # pyright: ignore[reportMissingImports]

        ends = torch.bincount(receiver, minlength=natm).cumsum(0)
        return segment_csr(values, torch.cat([ends.new_zeros(1), ends]), reduce="sum")
    return values.new_zeros(natm, values.shape[1]).index_add(0, receiver, values)


@functools.cache
def installed() -> bool:
    """Whether ``deeph-zero[scatter]`` is there."""
    return importlib.util.find_spec("torch_scatter") is not None
