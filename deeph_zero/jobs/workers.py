"""Structures to results: in this process, or in several that can die without taking the batch."""

import contextlib
import dataclasses
import logging
import multiprocessing
import pickle
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, runtime_checkable

import torch

from deeph_zero.errors import ComputationError, InputError, NoSpaceError, argument
from deeph_zero.host import runtime
from deeph_zero.host.reporting import configure_logging
from deeph_zero.host.runtime import Runtime
from deeph_zero.host.signals import leave_to_parent, no_interrupts
from deeph_zero.integrals.portable import Portable
from deeph_zero.jobs.chunks import Chunks, Ready, Together
from deeph_zero.jobs.journal import Record, digest, encode
from deeph_zero.jobs.tasks import Task, Tasks
from deeph_zero.molecule import Molecule
from deeph_zero.predict.record import failure
from deeph_zero.settings.config import RuntimeConfig

Compute = Callable[[int, Molecule, Callable[[str], None]], Record]
"""Position, structure, and where warnings go, to the result."""

_log = logging.getLogger("deeph_zero")

_PATIENCE = 0.5
"""Seconds between looks at whether there is anything left to wait for."""
_LAST_WORDS = 60
"""Seconds that a process which has said its last may take to end on a busy machine."""
_DEATHS_PER_WORKER = 3
"""Deaths in a row, without a result between them, after which the machine is to blame."""


@runtime_checkable
class Job(Protocol):
    """What is done with every structure; sent to each process once."""

    @property
    def verbose(self) -> int:
        """How much is said, see ``RuntimeConfig``."""
        ...

    def start(self, threads: int) -> Compute:
        """Load what is needed, and say what to do with one structure."""
        ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one structure.

    Attributes:
        task: The structure.
        digest: Its fingerprint.
        data: The encoded record; None if it failed.
        error: Entry of ``failed``; None if it did not.
        warnings: What the user should read.
    """

    task: Task
    digest: str
    data: bytes | None
    error: dict[str, Any] | None
    warnings: tuple[str, ...] = ()


def outcomes(
    job: Job, tasks: Iterator[Task], *, workers: int, threads: int, ahead: int = 0
) -> Iterator[Outcome]:
    """Compute structures; one that fails is an outcome like the others.

    Args:
        job: What to do.
        tasks: Structures; with several processes the next is taken when one of them is free, and
            the outcomes come as they are ready. Integrals are made ahead of need of :class:`Tasks`.
        workers: Processes; with 1 everything happens in this one.
        threads: CPU threads of all processes together.
        ahead: Processes that make integrals where several structures go together on a device, which
            this process does then, whatever ``workers`` says.

    Yields:
        One outcome per structure.

    Raises:
        InputError: If a process cannot load what it needs.
        ComputationError: If the processes keep ending.
    """
    if workers == 1 or ahead:
        compute = job.start(threads)
        if isinstance(compute, Together) and compute.at_once > 1:
            them = tasks if isinstance(tasks, Tasks) else Tasks(tasks)
            with Chunks(them, compute, workers=ahead, threads=threads) as chunks:
                while found := _attempts(compute, chunks.draw()):
                    yield from found
            return
        if workers == 1:
            yield from (attempt(compute, task) for task in tasks)
            return
    with _Pool(job, workers, max(1, threads // workers)) as pool:
        yield from pool.outcomes(tasks)


def start_process(config: RuntimeConfig, threads: int) -> Runtime:
    """Device, threads, seed and log of a process that computes.

    Args:
        config: Settings of the whole command.
        threads: CPU threads of this process.

    Returns:
        What was resolved.

    Raises:
        InputError: If the device does not exist here.
    """
    if multiprocessing.parent_process() is not None:
        configure_logging(config.verbose)
    return runtime.setup(config.model_copy(update={"threads": threads}))


def attempt(compute: Compute, task: Task, portable: Portable | None = None) -> Outcome:
    """One structure, which must not end the batch whatever it meets.

    Args:
        compute: What to do with it.
        task: The structure.
        portable: Its integrals, for a ``compute`` that takes them.

    Returns:
        What came of it.

    Raises:
        NoSpaceError: If the disk is full: the structures behind it would fail too.
    """
    said: list[str] = []
    data = error = None
    try:
        given = () if portable is None else (portable,)
        data = encode(compute(*task, said.append, *given))
    except NoSpaceError:
        raise  # the structures behind it would fail too
    except Exception as reason:
        error = failure(task[1], reason)
    return Outcome(task, digest(task[1]), data, error, tuple(said))


def _attempts(compute: Together, some: Sequence[Ready]) -> list[Outcome]:
    """Structures in one call; halves of them where that fails: for memory, or one is bad."""
    if len(some) < 2:
        return [attempt(compute, one.task, one.portable) for one in some]
    tasks = [one.task for one in some]
    found, full = None, False
    said: list[list[str]] = [[] for _ in some]
    # the failure is let go of before the next try: it holds what was computed
    try:
        records = compute.several(tasks, [o.append for o in said], [one.portable for one in some])
        found = [encode(record) for record in records]
    except NoSpaceError:
        raise
    except Exception as error:
        full = isinstance(error, torch.OutOfMemoryError)
        _log.debug("%d structures in one call failed: %s", len(some), error)
    if full:
        compute.room.shrink(len(some))
    if found is None:
        half = len(some) // 2
        return [*_attempts(compute, some[:half]), *_attempts(compute, some[half:])]
    each = zip(tasks, found, said, strict=True)
    return [Outcome(t, digest(t[1]), data, None, tuple(texts)) for t, data, texts in each]


def _serve(connection: Connection, job: Job, threads: int) -> None:
    """In the new process: results until the other side closes, or is gone."""
    leave_to_parent()
    if job.verbose < 1:
        warnings.simplefilter("ignore")
    with contextlib.suppress(EOFError, OSError):
        try:
            compute = job.start(threads)
        except Exception as error:
            text = " ".join((str(error) or type(error).__name__).split())
            connection.send(InputError(text) if isinstance(error, InputError) else text)
            return
        connection.send(None)
        while True:
            task = connection.recv()
            try:
                connection.send(attempt(compute, task))
            except NoSpaceError as error:
                connection.send(error)


class _Worker:
    """One process, and what it is at."""

    def __init__(self, job: Job, threads: int) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process with threads can hang
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, job, threads), daemon=True)
        with no_interrupts():
            self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.ready = False
        self.task: Task | None = None

    def give(self, task: Task) -> None:
        self.task = task
        with contextlib.suppress(OSError):  # a dead process is noticed when it is read from
            self.connection.send(task)

    def end(self) -> None:
        self.connection.close()
        if self.task is None and self.ready:
            self.process.join(timeout=_LAST_WORDS)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()


class _Pool:
    """Processes that compute; all of them are gone when its block ends."""

    def __init__(self, job: Job, count: int, threads: int) -> None:
        self._start = lambda: _Worker(job, threads)
        self._count = count
        self._workers: list[_Worker] = []
        self._deaths = 0
        self._results = 0

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._workers:
            if exc[0] is not None:  # given up: what they are at is lost
                worker.process.kill()
        for worker in self._workers:
            worker.end()

    def outcomes(self, tasks: Iterator[Task]) -> Iterator[Outcome]:
        """Give out structures, collect outcomes, replace processes that died."""
        exhausted = False
        while True:
            for worker in self._workers:
                if worker.ready and worker.task is None and not exhausted:
                    task = next(tasks, None)
                    if task is None:
                        exhausted = True
                    else:
                        worker.give(task)
            if exhausted and not any(worker.task for worker in self._workers):
                return
            while not exhausted and len(self._workers) < self._count:
                self._workers.append(self._start())
            yield from self._collect()

    def _collect(self) -> Iterator[Outcome]:
        by_connection = {w.connection: w for w in self._workers}
        for connection in wait(list(by_connection), timeout=_PATIENCE):
            worker = by_connection[connection]  # pyright: ignore[reportArgumentType]
            try:
                message = worker.connection.recv()
            except (EOFError, OSError, pickle.UnpicklingError):
                yield from self._buried(worker)
                continue
            if isinstance(message, Outcome):
                worker.task = None
                self._deaths = 0
                self._results += 1
                yield message
            elif isinstance(message, InputError | NoSpaceError):
                raise message
            elif message is not None:
                raise ComputationError(f"a worker process cannot start: {message}")
            worker.ready = True

    def _buried(self, worker: _Worker) -> Iterator[Outcome]:
        """A process has died: what it was at has failed, the others go on."""
        self._workers.remove(worker)
        task, worker.task = worker.task, None
        worker.connection.close()
        worker.process.join(timeout=_LAST_WORDS)
        reason = _reason(worker.process.exitcode)
        worker.end()
        self._deaths += 1
        if task is not None:
            error = failure(task[1], RuntimeError(f"its worker process ended ({reason})"))
            yield Outcome(task, digest(task[1]), None, error)
        # one that dies while others work is chance, one that dies where none could start is not
        hopeless = not worker.ready and not any(other.ready for other in self._workers)
        if hopeless or self._deaths > _DEATHS_PER_WORKER * self._count:
            again = (
                f"go on with {argument('resume', True)} and"
                if self._results
                else "run it again with"
            )
            raise ComputationError(
                f"worker processes keep ending ({reason}); {again} fewer {argument('workers')}, or "
                "with more memory"
            )


def _reason(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"{name}, out of memory?" if name == "SIGKILL" else name
    return f"exit code {exitcode}"
