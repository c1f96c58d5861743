"""Deterministic shuffled batches that a run can resume in the middle of an epoch."""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")


class ResumableBatches(Generic[Item]):
    """Lists of items, newly shuffled every epoch by (seed, epoch) alone.

    Lightning stores :meth:`state_dict` in its checkpoints and calls :meth:`set_epoch`, so that a
    run continued from the middle of an epoch sees exactly the batches that were still to come.
    """

    def __init__(
        self, items: Sequence[Item], batch_size: int, *, seed: int, shuffle: bool = True
    ) -> None:
        """Describe the batches; nothing is copied.

        Args:
            items: The data set.
            batch_size: Items per batch; the last batch may be smaller.
            seed: Seed of the shuffling.
            shuffle: Keep the order of ``items`` if false.

        Raises:
            ValueError: If the batch size is not positive or there are no items.
        """
        if batch_size < 1 or not len(items):
            raise ValueError(
                f"batch_size and number of items must be positive, got {batch_size} and "
                f"{len(items)}"
            )
        self._items = items
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._epoch = 0
        self._position = 0

    @property
    def sampler(self) -> "ResumableBatches[Item]":
        """Where Lightning looks for :meth:`set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is used next."""
        self._epoch = epoch

    def state_dict(self) -> dict[str, int]:
        """Batches already given in the current epoch."""
        return {"position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches that were already given."""
        self._position = state["position"]

    def __len__(self) -> int:
        """Batches per epoch."""
        return (len(self._items) + self._batch_size - 1) // self._batch_size

    def __iter__(self) -> Iterator[list[Item]]:
        """The batches of one epoch that are still to come."""
        # lazily: Lightning asks for the iterator before it sets the epoch
        self._position %= len(self)
        order = self._order()
        while self._position < len(self):
            start = self._position * self._batch_size
            self._position += 1
            yield [self._items[k] for k in order[start : start + self._batch_size]]

    def around(self, before: int, after: int) -> list[list[Item]]:
        """Batches near those given last, into the next epoch.

        Args:
            before: How many of those given.
            after: How many of those to come.

        Returns:
            Lists of items.
        """
        first, last = max(0, self._position - before), self._position + after
        orders = [self._order(), self._order(self._epoch + 1) if last > len(self) else []]
        batches = [
            order[start : start + self._batch_size]
            for order in orders
            for start in range(0, len(order), self._batch_size)
        ]
        return [[self._items[k] for k in batch] for batch in batches[first:last]]

    def _order(self, epoch: int | None = None) -> list[int]:
        if not self._shuffle:
            return list(range(len(self._items)))
        epoch = self._epoch if epoch is None else epoch
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        return torch.randperm(len(self._items), generator=generator).tolist()
