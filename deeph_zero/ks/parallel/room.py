"""How many things a device works on at once: fewer once its memory did not take as many."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from deeph_zero.ks.parallel.graphs import GRAPHS_HERE

T = TypeVar("T")
R = TypeVar("R")


class Room:
    """A number that halves where it was too large, and stays so."""

    def __init__(self, most: int | None = None) -> None:
        """Begin.

        Args:
            most: Things at once; None: all of them.
        """
        self.most = most

    def shrink(self, tried: int) -> None:
        """After so many things at once did not fit; nothing may hold what was computed of them."""
        half = max(1, tried // 2)
        self.most = half if self.most is None else min(self.most, half)
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
