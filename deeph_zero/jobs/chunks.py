"""Structures for one call on a device: as many as fit it, their integrals made ahead of need.

Worker processes make the integrals of the next structures while the device computes. A structure
whose integrals are there was looked at and not taken (:class:`~deeph_zero.jobs.tasks.Tasks`): where
a command is stopped it counts as one that nobody began.
"""

import dataclasses
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from deeph_zero.errors import InputError
from deeph_zero.host.runtime import set_threads
from deeph_zero.integrals.ahead import IntegralsAhead, Order, computed
from deeph_zero.integrals.portable import Portable
from deeph_zero.integrals.two_electron import available_memory_mb
from deeph_zero.jobs.journal import Record
from deeph_zero.jobs.tasks import Task, Tasks
from deeph_zero.ks.parallel.room import Room, stack_fits
from deeph_zero.molecule import Molecule

if TYPE_CHECKING:
    from deeph_zero.model import Model

HOST_SHARE = 0.25
"""Part of the free memory of the machine that integrals on order may take."""

_log = logging.getLogger("deeph_zero")


@runtime_checkable
class Together(Protocol):
    """What can be done with several structures in one call, where that is faster."""

    @property
    def device(self) -> torch.device:
        """Where it is done."""
        ...

    @property
    def room(self) -> Room:
        """Learns how many fit the device's memory."""
        ...

    @property
    def at_once(self) -> int:
        """How many structures at most; 1 where several are not faster."""
        ...

    def order(self, molecule: Molecule, /) -> Order | None:
        """The integrals that a structure needs; None: none."""
        ...

    def __call__(
        self,
        index: int,
        molecule: Molecule,
        warn: Callable[[str], None],
        portable: Portable | None = None,
        /,
    ) -> Record:
        """The result of one structure, with integrals if they are there."""
        ...

    def several(
        self,
        tasks: Sequence[Task],
        warns: Sequence[Callable[[str], None]],
        portables: Sequence[Portable | None],
        /,
    ) -> list[Record]:
        """Results in order; whatever goes wrong with one ends the call."""
        ...


@dataclasses.dataclass(frozen=True)
class OfModel:
    """What is asked of a model of molecules is done where the model is.

    Attributes:
        model: The model.
    """

    model: "Model"

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.model.device

    @property
    def room(self) -> Room:
        """What it has learned of the device's memory."""
        return self.model.room


@dataclasses.dataclass(frozen=True)
class Ready:
    """A structure to compute.

    Attributes:
        task: The structure.
        portable: Its integrals; None where they are made with the rest.
        alone: Whether it goes alone, as its integrals could not be made: then it says so itself.
    """

    task: Task
    portable: Portable | None = None
    alone: bool = False

    @property
    def stacked_bytes(self) -> int:
        """Size of what is stacked on the device."""
        return 0 if self.portable is None else self.portable.two.memory_bytes


class Chunks:
    """Draws structures for one call after another; its processes are gone when its block ends.

    On order are the integrals of as many structures as a call takes, and no more than
    :data:`HOST_SHARE` of the machine's free memory holds, by the largest seen so far. Those of the
    chunk that is drawn are on the device.
    """

    def __init__(self, tasks: Tasks, compute: Together, *, workers: int, threads: int) -> None:
        """Hire processes, which start with the first order.

        Args:
            tasks: The structures.
            compute: What will be done with them.
            workers: Processes that make integrals; 0: this one does.
            threads: CPU threads; the processes take theirs from this one's.
        """
        self._tasks = tasks
        self._compute = compute
        self._threads = threads
        if workers:
            set_threads(max(1, threads - workers))
        self._ahead = IntegralsAhead(workers, compute.device, compute.at_once)
        self._first: Ready | None = None
        self._limit = 1e6 * HOST_SHARE * available_memory_mb()
        self._rate = 0.0
        """Bytes by :func:`_size` of the largest so far; 0 before the first."""

    def __enter__(self) -> "Chunks":
        """Itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Dismiss the processes; where a command is stopped nobody waits for what they are at."""
        self._ahead.close(wait=exc[0] is None and not self._ahead.on_order)
        set_threads(self._threads)

    def draw(self) -> list[Ready]:
        """Take the structures of the next call.

        Returns:
            At least one, unless all are done or somebody wants to stop. One whose integrals could
            not be made comes by itself.
        """
        drawn: list[Ready] = []
        held = 0
        while len(drawn) < self._compute.at_once and (task := self._tasks.first()) is not None:
            ready = self._first = self._ready(task)
            held += ready.stacked_bytes
            if drawn and (ready.alone or not stack_fits(held, self._compute.device)):
                break
            if next(self._tasks, None) is None:
                break
            self._first = None
            drawn.append(ready)
            if ready.alone:
                break
        self._plan()
        return drawn

    def _ready(self, task: Task) -> Ready:
        """A structure with its integrals, on the device where they fit."""
        if self._first is not None and self._first.task is task:
            return self._first
        try:
            order = self._compute.order(task[1])
            portable = None if order is None else self._made(task[0], order)
        except Exception as error:  # whatever it is, alone it says the same with file and frame
            _log.debug("%sintegrals ahead of need failed: %s", task[1].where, error)
            return Ready(task, alone=True)
        if portable is None:
            return Ready(task)
        self._rate = max(self._rate, portable.memory_bytes / _size(task[1]))
        try:
            return Ready(task, portable.to(self._compute.device))
        except torch.OutOfMemoryError:  # what is at work there may be gone when it is needed
            return Ready(task, portable)

    def _made(self, index: int, order: Order) -> Portable:
        """Integrals, of a worker unless they are the first: those say how many may be on order."""
        if self._rate == 0:
            return computed(order)
        self._plan()
        found = self._ahead.take(index, order)
        if self._ahead.limit and not self._ahead.works:
            set_threads(self._threads)  # a process died, from now on this one makes them all
        return found

    def _plan(self) -> None:
        """Order integrals of the next structures, within the limit."""
        if self._rate == 0 or not self._ahead.limit:
            return
        wanted: dict[Hashable, Order] = {}
        nbytes = 0.0
        for task in self._tasks.coming(self._ahead.limit):
            order = self._order(task)
            if order is None:
                continue
            nbytes += self._rate * _size(task[1])
            if wanted and nbytes > self._limit and task[0] not in self._ahead:
                break
            wanted[task[0]] = order
        self._ahead.plan((key, lambda order=order: order) for key, order in wanted.items())

    def _order(self, task: Task) -> Order | None:
        """What to order for a structure that comes later; one that is refused shows in its turn."""
        if self._first is not None and task is self._first.task:
            return None  # it is here
        try:
            return self._compute.order(task[1])
        except InputError:
            return None


def _size(molecule: Molecule) -> float:
    """What the size of integrals goes with: orbitals to the third power, by rule of thumb."""
    return float(molecule.numbers.sum() + len(molecule.numbers)) ** 3
