"""What the next training steps will need: integrals on order, and files read before they are."""

from typing import TYPE_CHECKING

from deeph_zero.train.batches import ResumableBatches
from deeph_zero.train.store.cache import HeavyStore

if TYPE_CHECKING:
    from deeph_zero.train.module import FitModule

BATCHES = 3
"""Batches to look at, the present one included."""
GIVEN = 2
"""Batches that the trainer asks for before it uses them, at most."""


class LookAhead:
    """Called before every step; orders what the batches from this one on will ask for."""

    def __init__(
        self, batches: ResumableBatches[int], module: "FitModule", store: HeavyStore
    ) -> None:
        """Bind.

        Args:
            batches: The batches of the training.
            module: Knows which geometries a step builds a Fock matrix for.
            store: Where the geometries are.
        """
        self._batches = batches
        self._module = module
        self._store = store

    def __call__(self, present: list[int]) -> None:
        """Order integrals.

        Args:
            present: Positions of the batch that is about to be used.
        """
        coming = [present, *self._batches.around(GIVEN, BATCHES)]
        keys = list(dict.fromkeys(k for batch in coming for k in batch))
        module, stream = self._module, self._module.stream
        leaving: list[int] = []
        if stream is not None:
            leaving = [k for k in keys if stream.is_due(k, module.remaining)]
        staying = [k for k in keys if k not in leaving]
        names = set(module.mix.active(module.progress))
        if names <= {"fixed-point", "supervised"}:
            staying = [k for k in staying if "fixed-point" in names and module.lessons.likely(k)]
        ahead = self._store.ahead
        wanted = self._store.missing(staying)
        if stream is not None:
            wanted += [stream.order(k) for k in leaving]
        if ahead is not None:
            ahead.plan(wanted)
