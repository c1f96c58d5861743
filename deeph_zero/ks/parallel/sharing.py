"""Pieces of work that do not depend on each other, shared among threads, results in order.

torch gives one operation to several threads, which costs more than it saves where operations are
short. Here each thread has pieces of its own and runs operations alone; torch lets go of Python's
lock inside them. Results are used in the order of the pieces, not of their completion: sums do not
depend on timing.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar, final

import torch

P = TypeVar("P")
R = TypeVar("R")

_here = threading.local()


def available_threads() -> int:
    """How many threads the calling one may share its work among; 1 while it shares already."""
    return getattr(_here, "available", None) or torch.get_num_threads()


def working_alone() -> bool:
    """Whether the calling thread is one of several that share work: it should not use others."""
    return getattr(_here, "available", None) == 1


@contextlib.contextmanager
def one_thread_each(available: int | None = None) -> Iterator[None]:
    """Every operation of this thread runs on one thread; work may still be shared.

    A thread that OpenMP was given to help with one operation keeps its core busy for milliseconds
    after it, in the way of those that share work.

    Args:
        available: Threads that work may be shared among; None: as many as before.

    Yields:
        Nothing.
    """
    before, outer = torch.get_num_threads(), getattr(_here, "available", None)
    _here.available = available or available_threads()
    if before != 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        _here.available = outer
        if before != 1:
            torch.set_num_threads(before)


@contextlib.contextmanager
def threads_per_operation() -> Iterator[None]:
    """Inside :func:`one_thread_each`: long operations that use every available thread.

    Yields:
        Nothing.
    """
    before, count = torch.get_num_threads(), available_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def share(
    work: Callable[[P], R],
    pieces: Iterator[P],
    use: Callable[[R], object],
    *,
    on_cpu: bool = True,
) -> None:
    """Call ``use(work(piece))`` for every piece, in the order of the pieces.

    Args:
        work: Makes a result of a piece; called in several threads, without autograd.
        pieces: Asked for one at a time, in order, perhaps from different threads.
        use: Gets the results in order, one at a time, perhaps in different threads.
        on_cpu: False for work of another device, which one thread feeds.

    Raises:
        BaseException: What ``work``, ``pieces`` or ``use`` raised first, in any thread.
    """
    threads = available_threads()
    if threads == 1 or not on_cpu:
        for piece in pieces:
            use(work(piece))
        return
    shared = _Shared(work, pieces, use)
    helpers = [threading.Thread(target=shared.help, daemon=True) for _ in range(threads - 1)]
    with one_thread_each(1):
        try:
            for helper in helpers:
                helper.start()
            shared.run()
        finally:
            shared.stopped = True
            for helper in helpers:
                helper.join()
    if shared.error is not None:
        raise shared.error


@final
class _Shared(Generic[P, R]):
    """Pieces left, results waiting for an earlier one, and what went wrong in a helper."""

    def __init__(
        self, work: Callable[[P], R], pieces: Iterator[P], use: Callable[[R], object]
    ) -> None:
        self._work = work
        self._pieces = enumerate(pieces)
        self._use = use
        self._asking = threading.Lock()
        self._using = threading.Lock()
        self._waiting: dict[int, R] = {}
        self._next = 0
        self.stopped = False
        self.error: BaseException | None = None

    def help(self) -> None:
        """Run as a helper: OpenMP's thread count and the gradient mode belong to a thread."""
        try:
            torch.set_num_threads(1)
            with one_thread_each(1), torch.no_grad():
                self.run()
        except BaseException as error:  # raised again in the caller's thread
            self.error = error
            self.stopped = True

    def run(self) -> None:
        """Work until nothing is left."""
        while True:
            with self._asking:
                numbered = None if self.stopped else next(self._pieces, None)
            if numbered is None:
                return
            number, piece = numbered
            result = self._work(piece)
            with self._using:
                self._waiting[number] = result
                while self._next in self._waiting:
                    self._use(self._waiting.pop(self._next))
                    self._next += 1
