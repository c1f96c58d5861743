"""A trained network for more elements: the same architecture, its weights kept."""

import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from deeph_zero.errors import InputError
from deeph_zero.nn.network import FockNetwork


def extended(network: FockNetwork, shells: Mapping[int, Sequence[int]]) -> FockNetwork:
    """The network with every element of a data set.

    All weights but the element embedding are shared by elements and pairs of elements, and kept. A
    new element starts as the mean of the known ones; calibrating the network on examples then sets
    its scales and leaves those of known elements alone.

    Args:
        network: A trained network.
        shells: For each atomic number the l of its contracted shells; known elements may be among
            them.

    Returns:
        The network itself when it knows them all, or a new one; calibrating either leaves the
        scales of known elements alone.

    Raises:
        InputError: If an element needs more shells of one l than the network has slots for.
    """
    spec = network.spec
    try:
        layout = spec.layout.with_elements(shells)
    except InputError as error:
        raise InputError(f"the trained network cannot take new elements: {error}") from error
    if layout.elements == spec.elements:
        network.scales.settled.fill_(True)
        return network
    new = FockNetwork(dataclasses.replace(spec, layout=layout))
    new = new.to(device=network.element.weight.device, dtype=network.dtype)
    rows = torch.tensor([layout.elements.index(z) for z in spec.elements])
    known = network.state_dict()
    state = {name: _enlarged(known[name], to, rows) for name, to in new.state_dict().items()}
    new.load_state_dict(state)
    new.scales.settled[rows] = True
    return new


def _enlarged(values: Tensor, like: Tensor, rows: Tensor) -> Tensor:
    """Values per element (or pair) in their new rows, the mean of all in the others."""
    if values.shape == like.shape:
        return values
    axes = sum(a != b for a, b in zip(values.shape, like.shape, strict=True))
    mean = values.mean(tuple(range(axes)))
    out = mean.expand(like.shape).clone()
    out[(rows,) if axes == 1 else (rows[:, None], rows)] = values
    return out
