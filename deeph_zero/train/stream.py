"""A stream of new geometries: each copy is visited a few times and then replaced by another one."""

from collections.abc import Callable, Hashable, Iterable, MutableSequence, Sequence
from typing import Any

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.integrals.ahead import Order
from deeph_zero.train.budget import Lessons
from deeph_zero.train.taught import Absent, Problem, here

Make = Callable[[int, int], Problem]
"""The geometry of a slot (position among the problems) and a generation, ready to be taught."""
Ahead = tuple[Hashable, Callable[[], Order]]
"""The name of integrals to be computed ahead of need, and what they are."""


class Stream:
    """Replaces displaced copies while a model trains; memory stays that of those alive.

    The geometry of a slot and generation follows from the seed alone, so that a run resumed from a
    checkpoint needs the generations, not the geometries.
    """

    def __init__(
        self,
        problems: MutableSequence[Problem | Absent],
        places: Sequence[int],
        make: Make,
        visits: int,
        order: Callable[[int, int], Ahead] | None = None,
    ) -> None:
        """Bind; nothing is replaced before it was visited.

        Args:
            problems: All geometries of the run; new ones are put into it.
            places: Positions of the copies among them.
            make: Prepares a geometry; may raise ``ComputationError`` or ``InputError``.
            visits: Training steps that see a geometry.
            order: The integrals that ``make`` will ask for.
        """
        self._order = order
        self.visits = visits
        self.replaced = 0
        self._problems = problems
        self._make = make
        # the first ones stay for different times, so that not all leave in one epoch
        self._left = {k: 1 + visits * (i + 1) // len(places) for i, k in enumerate(places)}
        self._generation = dict.fromkeys(places, 0)

    def visit(self, batch: Iterable[int], lessons: Lessons, remaining: float) -> None:
        """Count a training step's visits; geometries that had all of theirs are replaced before it.

        Args:
            batch: Positions.
            lessons: Their teachers' book-keeping.
            remaining: Visits that a new geometry can still have; too few are not worth its builds.
        """
        for k in batch:
            if k not in self._left:
                continue
            if self.is_due(k, remaining):
                self._replace(k, lessons)
            self._left[k] = max(0, self._left[k] - 1)

    def is_due(self, k: int, remaining: float) -> bool:
        """Whether a geometry is replaced at its next visit.

        Args:
            k: Its position.
            remaining: Visits that a new geometry can still have.

        Returns:
            False for those that stay.
        """
        return self._left.get(k) == 0 and remaining >= self.visits

    def order(self, k: int) -> Ahead:
        """The integrals of the geometry that comes next in a slot.

        Args:
            k: The slot, that of a copy.

        Returns:
            What can be computed ahead of need.
        """
        assert self._order is not None
        return self._order(k, self._generation[k] + 1)

    def _replace(self, k: int, lessons: Lessons) -> None:
        """The next generation; a geometry that cannot be prepared is passed over."""
        self._left[k] = self.visits
        self._generation[k] += 1
        try:
            new = self._make(k, self._generation[k])
        except (ComputationError, InputError):
            return
        self._put(k, new)
        lessons.forget(k)
        self.replaced += 1

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after a restart."""
        alive = [[k, self._left[k], self._generation[k]] for k in self._left]
        return {"alive": alive, "replaced": self.replaced}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`, before the teachers are restored.

        Args:
            state: As it was kept.
        """
        self.replaced = int(state["replaced"])
        for k, left, generation in state["alive"]:
            self._left[k] = int(left)
            wanted = int(generation)
            while self._generation[k] != wanted:
                # the last one that could be prepared
                try:
                    self._put(k, self._make(k, wanted))
                    break
                except (ComputationError, InputError):
                    wanted -= 1
            self._generation[k] = int(generation)

    def _put(self, k: int, new: Problem) -> None:
        """Put a geometry into the slot of another one, whose builds stay counted."""
        new.ks.builds += here(self._problems[k]).ks.builds
        self._problems[k] = new
