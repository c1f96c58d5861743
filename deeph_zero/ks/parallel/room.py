"""How much a CUDA device has room for: memory, and things worked on at once."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from deeph_zero.ks.parallel.graphs import GRAPHS_HERE

T = TypeVar("T")
R = TypeVar("R")

TOGETHER = 64
"""Molecules in one call; more cost as much each. Where they do not fit a card, fewer."""
SHARE = 0.25
"""Part of a card's free memory for values that are kept to save time. They are kept only while as
large a part of the whole card stays free behind them."""
STACK_SHARE = 0.5
"""Part of a card's free memory for the integrals of one stack."""
STACKED = 3
"""Size of a stack by that of its packed integrals: packed once more, and unpacked."""


def free_bytes(device: torch.device | str) -> int:
    """What is left of a CUDA device, with what torch holds of it and does not use.

    Args:
        device: The device.

    Returns:
        Bytes.
    """
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + max(0, unused)


def memory_mb(device: torch.device | str, otherwise: float) -> float:
    """Memory for what is kept to save time.

    Args:
        device: Where it is kept.
        otherwise: On a processor, MB.

    Returns:
        MB; on a CUDA device :data:`SHARE` of what is free.
    """
    if torch.device(device).type != "cuda":
        return otherwise
    return SHARE * free_bytes(device) / 1e6


def may_keep(nbytes: int, device: torch.device) -> bool:
    """Whether so much may stay on a device for good: always on a processor, which has a limit.

    Args:
        nbytes: Its size.
        device: Where it is.

    Returns:
        Whether :data:`SHARE` of a card would stay free behind it.
    """
    if device.type != "cuda":
        return True
    return free_bytes(device) - nbytes >= SHARE * torch.cuda.mem_get_info(device)[1]


def stack_fits(nbytes: int, device: torch.device) -> bool:
    """Whether two-electron integrals on a device leave the room that their stack takes.

    Args:
        nbytes: Their size, packed.
        device: Where they are.

    Returns:
        False where :func:`check_stack` would refuse it; its molecules may be padded besides.
    """
    if device.type != "cuda":
        return True
    return STACKED * nbytes <= STACK_SHARE * free_bytes(device)


def check_stack(nbytes: int, device: torch.device) -> None:
    """Say that a stack does not fit before it is begun: what is computed with it needs room, too.

    Args:
        nbytes: Its size.
        device: Where it would be.

    Raises:
        OutOfMemoryError: If it is more than :data:`STACK_SHARE` of what a CUDA device has free.
    """
    if device.type == "cuda" and nbytes > STACK_SHARE * free_bytes(device):
        text = f"CUDA out of memory: a stack of {nbytes / 1e6:.0f} MB leaves too little beside it"
        raise torch.OutOfMemoryError(text)


class Room:
    """A number that halves where it was too large, and stays so.

    Attributes:
        most: Things to work on at once.
    """

    def __init__(self, most: int) -> None:
        """Begin.

        Args:
            most: As many as were worth it.
        """
        self.most = most

    def shrink(self, tried: int) -> None:
        """After so many things at once did not fit; nothing may hold what was computed of them."""
        self.most = min(self.most, max(1, tried // 2))
        GRAPHS_HERE.release()

    def learn(self, tried: int, *, scarce: bool) -> None:
        """After so many things at once; ``scarce``: they were done in halves."""
        if scarce:
            self.shrink(tried)

    def over(self, work: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
        """Work on things, as many at once as fit.

        Args:
            work: Results of some things, in order.
            items: All of them.

        Returns:
            All results, in order.

        Raises:
            OutOfMemoryError: If a single thing does not fit.
        """
        out: list[R] = []
        while some := items[len(out) :][: self.most]:
            # the failure is let go of before the next try: it holds what was computed
            try:
                out += work(some)
                continue
            except torch.OutOfMemoryError:
                if len(some) == 1:
                    raise
            self.shrink(len(some))
        return out
