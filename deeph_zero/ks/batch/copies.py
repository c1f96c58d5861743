"""Tensors of several molecules between processor and device, all of them in one copy."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deeph_zero.ks.parallel.uploads import sent


def to_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies on the processor, in one go.

    Args:
        tensors: Tensors of one device and type.

    Returns:
        The copies.
    """
    return to_device(tensors, torch.device("cpu"))


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copies on a device, in one go.

    Args:
        tensors: Tensors of one device and type.
        device: Where to.

    Returns:
        The copies there.
    """
    if not tensors:
        return []
    flat = sent(torch.cat([one.reshape(-1) for one in tensors]), device)
    parts = flat.split([one.numel() for one in tensors])
    return [part.reshape(one.shape) for part, one in zip(parts, tensors, strict=True)]
