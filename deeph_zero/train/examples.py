"""What scales and readout are fitted to: inputs and corrections, made when they are asked for."""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar, overload

Item = TypeVar("Item")


class MadeWhenAsked(Sequence[Item], Generic[Item]):
    """A sequence whose items are made each time: thousands of them are never in memory together."""

    def __init__(self, keys: Sequence[int], make: Callable[[int], Item]) -> None:
        """Describe it.

        Args:
            keys: One per item.
            make: Item of a key.
        """
        self._keys = keys
        self._make = make

    def __len__(self) -> int:
        """Number of items."""
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Item: ...

    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...

    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        """One item, or a list of some."""
        if isinstance(index, slice):
            return [self._make(key) for key in self._keys[index]]
        return self._make(self._keys[index])

    def __iter__(self) -> Iterator[Item]:
        """One item after another."""
        return (self._make(key) for key in self._keys)
