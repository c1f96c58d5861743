"""The structures that are left to do, one by one until somebody wants to stop; seen before."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from deeph_zero.molecule import Molecule

Task = tuple[int, Molecule]
"""Position of a structure, and the structure."""


class Tasks(Iterator[Task]):
    """Structures to work on; one that was looked at ahead and not taken was never begun.

    Attributes:
        stopped_by: Why it ended before all were taken; None if it did not.
    """

    def __init__(
        self, tasks: Iterator[Task], stop: Callable[[], str | None] = lambda: None
    ) -> None:
        """Take none yet.

        Args:
            tasks: All of them.
            stop: Asked before each; what it says ends it.
        """
        self._tasks = tasks
        self._stop = stop
        self._seen: deque[Task] = deque()
        self._failure: Exception | None = None
        self.stopped_by: str | None = None

    def __next__(self) -> Task:
        """Take the next one."""
        if self.first() is None:
            raise StopIteration
        return self._seen.popleft()

    def first(self) -> Task | None:
        """The one that would be taken next; None at the end, or where somebody wants to stop."""
        if not self.coming(1):
            if self._failure is not None:
                raise self._failure
            return None
        self.stopped_by = self.stopped_by or self._stop()
        return None if self.stopped_by else self._seen[0]

    def coming(self, count: int) -> Sequence[Task]:
        """What will be taken, unless somebody wants to stop.

        Args:
            count: How many at most.

        Returns:
            The next ones. A failure of their source shows when those before it were taken.
        """
        while len(self._seen) < count and self._failure is None:
            try:
                self._seen.append(next(self._tasks))
            except StopIteration:
                break
            except Exception as error:  # it belongs behind what was read before
                self._failure = error
        return list(self._seen)[:count]
