"""Structures to results on a Ray cluster: chunks of them as tasks, those of a lost worker again."""

import collections
import contextlib
import dataclasses
import importlib
import logging
import os
import socket
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from deeph_zero.errors import ComputationError, InputError, NoSpaceError, argument
from deeph_zero.host.signals import leave_to_parent
from deeph_zero.jobs.journal import digest
from deeph_zero.jobs.workers import Compute, Job, Outcome, Task, attempt
from deeph_zero.predict.record import failure

_CHUNK_SECONDS = 2.0
"""Work of one task: long against its overhead, short against a time limit."""
_LARGEST_CHUNK = 256
_PATIENCE = 0.5
"""Seconds between looks at whether there is anything left to wait for."""
_STARTS = 3
"""Tries to start a cluster here: Ray gives up after half a minute, too little where all is busy."""
_KNOCK = 10.0
"""Seconds to wait for an answer at an address; Ray waits for minutes."""
_NO_TOKEN = "Authentication token is missing"
"""Said by a cluster whose machines trust by a token."""
_TRIES = 3
"""Workers that a single structure may cost before it counts as failed."""
_LOST = 20
"""Workers lost in a row, without a result between them, after which the cluster is to blame."""

_LOOK = 10.0
"""Seconds between looks at what the cluster has."""

_log = logging.getLogger("deeph_zero")
_started: dict[str, Compute] = {}
"""In a worker: what its job has loaded, by the job's name."""


@dataclasses.dataclass(frozen=True)
class _Place:
    """What a worker takes over from the command.

    Attributes:
        name: Name of the job, unlike any other.
        folder: Working folder; relative names are meant from there.
        words: Whether messages speak of options, see ``deeph_zero.errors.argument``.
        threads: CPU threads of one worker.
    """

    name: str
    folder: str
    words: str
    threads: int


@dataclasses.dataclass
class _Chunk:
    tasks: list[Task]
    tries: int = 0


def ray_outcomes(
    job: Job, tasks: Iterator[Task], *, engine: str, threads: int, at_once: int | None
) -> Iterator[Outcome]:
    """Compute structures on a cluster; one that fails is an outcome like the others.

    Args:
        job: What to do.
        tasks: Structures, taken as workers become free; outcomes come as they are ready.
        engine: "ray" starts a cluster on this machine, "ray:ADDRESS" joins one.
        threads: CPU threads of one task.
        at_once: Tasks that run at a time at most; None: as many as the cluster has CPUs for.

    Yields:
        One outcome per structure.

    Raises:
        InputError: If Ray is not installed, or a worker cannot load what it needs.
        ComputationError: If there is no such cluster, or workers keep ending.
    """
    ray = _ray(engine, max(threads, threads * at_once if at_once else os.cpu_count() or 1))
    try:
        yield from _Cluster(ray, job, threads, at_once).outcomes(tasks)
    finally:
        with contextlib.suppress(Exception):
            ray.shutdown()


def _ray(engine: str, cpus: int) -> Any:
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise InputError(
            f"{argument('engine')}: expected Ray beside {engine}, it is not installed; "
            "`pip install deeph-zero[ray]`"
        ) from None
    logging.getLogger("ray").setLevel(logging.ERROR)
    _quiet()
    address = engine.partition(":")[2]
    settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address:
        settings["address"] = address
    else:
        # one of its own, whatever cluster runs on this machine
        settings |= {"address": "local", "include_dashboard": False}
        settings["num_cpus"] = cpus
    reason = ""
    for again in range(_STARTS):
        reason = _unreachable(address) or _why_not(ray, settings)
        if not reason:
            return ray
        if address and (again or _NO_TOKEN not in reason or not _use_token()):
            break
    raise ComputationError(
        f"{argument('engine')}: expected a Ray cluster at {address or 'this machine'}, got "
        f"none ({reason}); see `ray status`"
    )


def _unreachable(address: str) -> str:
    """Why nothing listens at an address; Ray itself takes minutes to say so."""
    host, _, port = address.rpartition("/")[2].rpartition(":")
    if not host or not port.isdecimal():
        return ""
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK):
            return ""
    except (OSError, OverflowError, UnicodeError) as error:
        return f"nothing answers at {host}:{port}: {getattr(error, 'strerror', None) or error}"


def _why_not(ray: Any, settings: dict[str, Any]) -> str:
    """Why Ray does not start; empty where it does. Its libraries print a line per second."""
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            ray.init(**settings)
        except Exception as error:  # Ray raises of all kinds
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        else:
            return ""
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        with contextlib.suppress(Exception):
            ray.shutdown()  # ends the processes of a start that took too long
        said.seek(0)
        if _NO_TOKEN.encode() in said.read():
            reason += f"; {_NO_TOKEN}, see RAY_AUTH_MODE"
        return reason


def _use_token() -> bool:
    """Show the token of this account, as Ray does by itself at clusters that it finds itself."""
    with contextlib.suppress(ImportError, AttributeError):
        tokens = importlib.import_module("ray._private.authentication.authentication_token_setup")
        return bool(tokens.maybe_enable_token_auth_if_token_available(warn_if_disabled=False))
    return False


def _quiet() -> None:
    """Ray prints of lost workers on stdout, where ``--json`` writes, and has no switch for it."""
    with contextlib.suppress(ImportError):
        worker = importlib.import_module("ray._private.worker")
        if hasattr(worker, "print_to_stdstream"):
            vars(worker)["print_to_stdstream"] = lambda *_, **__: None


class _Cluster:
    """Chunks that are out, and what is to be done with those that come back or do not."""

    def __init__(self, ray: Any, job: Job, threads: int, at_once: int | None) -> None:
        self._ray = ray
        self._job = job  # small, so with every task: a shared object can be lost
        words = os.environ.get("DEEPH_ZERO_WORDS", "")
        self._place = _Place(uuid.uuid4().hex, os.getcwd(), words, threads)  # noqa: PTH109
        self._remote = ray.remote(num_cpus=threads, max_retries=0)(_compute_chunk)
        self._at_once = at_once
        self._most, self._looked, self._warned = 1, -_LOOK, False
        self._again: collections.deque[_Chunk] = collections.deque()
        self._out: dict[Any, _Chunk] = {}
        self._size, self._lost = 1, 0

    def outcomes(self, tasks: Iterator[Task]) -> Iterator[Outcome]:
        """Give out chunks and collect them."""
        exhausted = False
        while True:
            if time.monotonic() > self._looked + _LOOK:
                self._look()
            while len(self._out) < self._most and (self._again or not exhausted):
                chunk = self._next(tasks)
                if chunk is None:
                    exhausted = True
                    break
                reference = self._remote.remote(self._place, self._job, chunk.tasks)
                self._out[reference] = chunk
            if not self._out:
                return
            ready, _ = self._ray.wait(list(self._out), num_returns=1, timeout=_PATIENCE)
            for reference in ready:
                yield from self._collect(reference, self._out.pop(reference))

    def _look(self) -> None:
        """How many chunks may be out; machines join a cluster and leave it."""
        self._looked, threads = time.monotonic(), self._place.threads
        try:
            nodes = [node for node in self._ray.nodes() if node["Alive"]]
        except Exception:  # Ray raises of all kinds; what is out will say what is wrong
            return
        rooms = [int(node["Resources"].get("CPU", 0)) // threads for node in nodes]
        room, asked = max(1, sum(rooms)), self._at_once
        # where the cluster itself is the limit one chunk waits for each that runs
        self._most = asked if asked is not None and asked < room else 2 * room
        if not any(rooms) and not self._warned:
            self._warned = True
            _log.warning(
                "no machine of the cluster has %d CPUs; waiting for one (%s)",
                threads,
                argument("threads"),
            )

    def _next(self, tasks: Iterator[Task]) -> _Chunk | None:
        if self._again:
            return self._again.popleft()
        taken = [task for _, task in zip(range(self._size), tasks, strict=False)]
        return _Chunk(taken) if taken else None

    def _collect(self, reference: Any, chunk: _Chunk) -> Iterator[Outcome]:
        errors = self._ray.exceptions
        try:
            found, seconds = self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, errors.RayError):  # what it needed was on a lost machine
                yield from self._gone(chunk, type(error.cause).__name__)
                return
            line = " ".join(str(error.cause or error).split())[:200]
            raise ComputationError(f"a worker of the cluster failed: {line}") from None
        except errors.RayError as error:
            yield from self._gone(chunk, type(error).__name__)
            return
        if isinstance(found, InputError | NoSpaceError | ComputationError):
            raise found
        self._lost = 0
        each = max(seconds / len(chunk.tasks), 1e-3)
        self._size = max(1, min(_LARGEST_CHUNK, int(_CHUNK_SECONDS / each)))
        yield from found

    def _gone(self, chunk: _Chunk, why: str) -> Iterator[Outcome]:
        """The worker is lost: its structures are done again, one by one where there were many."""
        self._lost += 1
        if self._lost > _LOST:
            raise ComputationError(
                f"workers of the cluster keep ending ({why}); go on with "
                f"{argument('resume', True)}, on machines with more memory"
            )
        if len(chunk.tasks) > 1:
            self._again.extend(_Chunk([task]) for task in chunk.tasks)
        elif chunk.tries + 1 < _TRIES:
            self._again.append(_Chunk(chunk.tasks, chunk.tries + 1))
        else:
            task = chunk.tasks[0]
            error = failure(task[1], RuntimeError(f"{_TRIES} workers ended with it ({why})"))
            yield Outcome(task, digest(task[1]), None, error)


def _compute_chunk(
    place: _Place, job: Job, tasks: Sequence[Task]
) -> tuple[list[Outcome] | Exception, float]:
    """In a worker: the outcomes of some structures, and the seconds they took."""
    if place.name not in _started:
        leave_to_parent()
        if place.words:
            os.environ["DEEPH_ZERO_WORDS"] = place.words
        with contextlib.suppress(OSError):  # another machine may not have it
            os.chdir(place.folder)
        try:
            _started.clear()
            _started[place.name] = job.start(place.threads)
        except InputError as error:
            return InputError(" ".join(str(error).split())), 0.0
        except Exception as error:  # whatever a job meets
            text = " ".join((str(error) or type(error).__name__).split())
            return ComputationError(f"a worker of the cluster cannot start: {text}"), 0.0
    began = time.monotonic()
    try:
        found = [attempt(_started[place.name], task) for task in tasks]
    except NoSpaceError as error:
        return error, 0.0
    return found, time.monotonic() - began
