"""One place for device, threads, seeds and the time limit."""

import contextlib
import dataclasses
import logging
import math
import os
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch

from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.host.allocator import keep_freed_memory
from deeph_zero.host.signals import Interrupt

_log = logging.getLogger("deeph_zero")

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Read by numerical libraries when a process loads them."""
_ROOM_MB = 200
"""A small molecule takes 30 to 250 MB of address space, beside 900 MB of the libraries."""


def now() -> float:
    """Seconds on the clock of all time limits; a test may put another one in its place."""
    return time.monotonic()


@dataclasses.dataclass(frozen=True)
class Deadline:
    """The moment at which a run has to be finished.

    Attributes:
        at: ``time.monotonic()`` value, or None for no limit.
    """

    at: float | None = None

    @classmethod
    def after(cls, max_time: float | None, started: float | None = None) -> "Deadline":
        """A deadline ``max_time`` seconds after ``started`` (default: now); None for no limit."""
        if max_time is None:
            return cls(None)
        return cls((now() if started is None else started) + max_time)

    def remaining(self) -> float:
        """Seconds left, never negative; infinity without a limit."""
        return float("inf") if self.at is None else max(0.0, self.at - now())

    def expired(self) -> bool:
        """Whether the time is up."""
        return self.remaining() <= 0.0


def stop_reason(
    interrupt: Interrupt, deadline: Deadline
) -> Literal["interrupt", "max_time"] | None:
    """Why nothing further is begun; asked between structures.

    Args:
        interrupt: Whether a signal came.
        deadline: When the time is up.

    Returns:
        "interrupt", "max_time" where only the time is up, or None.
    """
    if interrupt.requested:
        return "interrupt"
    return "max_time" if deadline.expired() else None


@dataclasses.dataclass(frozen=True)
class Runtime:
    """The resolved settings of a run.

    Attributes:
        device: Where tensors live.
        threads: CPU threads of torch, OpenMP (PySCF) and workers together.
        seed: Seed that was set.
        deadline: When to stop.
    """

    device: torch.device
    threads: int
    seed: int
    deadline: Deadline


@runtime_checkable
class RuntimeSettings(Protocol):
    """What :func:`setup` reads; ``settings.config.RuntimeConfig`` has it."""

    @property
    def device(self) -> str:
        """As :func:`resolve_device` takes it."""
        ...

    @property
    def threads(self) -> int | None:
        """How many; None means :func:`default_threads`."""
        ...

    @property
    def seed(self) -> int:
        """For Python, NumPy and torch."""
        ...

    @property
    def max_time(self) -> float | None:
        """Seconds until the deadline, if there is one."""
        ...

    @property
    def started(self) -> float | None:
        """When the command began, on the clock of :func:`now`."""
        ...


def setup(config: RuntimeSettings) -> Runtime:
    """Apply the settings to this process; calling it again with the same settings changes nothing.

    Args:
        config: Device, threads, seed, time limit.

    Returns:
        What was resolved.

    Raises:
        InputError: If the device does not exist here.
        ComputationError: If a limit of the shell leaves no memory to work with.
    """
    check_address_space()
    keep_freed_memory()
    device = resolve_device(config.device)
    threads = set_threads(config.threads)
    seed_everything(config.seed)
    return Runtime(device, threads, config.seed, Deadline.after(config.max_time, config.started))


def address_space_left_mb() -> float:
    """What the shell's limit of address space (``ulimit -v``) leaves, MB; infinite without one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError, IndexError):  # not Linux
        return math.inf
    return max(0.0, (limit - pages * resource.getpagesize()) / 1e6)


def check_address_space() -> None:
    """Refuse a limit that is all but used up: numerical libraries may wait for ever within it.

    Raises:
        ComputationError: If the libraries have left too little of it.
    """
    left = address_space_left_mb()
    if left < _ROOM_MB:
        raise ComputationError(
            f"memory: the shell's limit of address space (ulimit -v) leaves {left:.0f} MB beside "
            f"the libraries, expected at least {_ROOM_MB}; raise it, for example with "
            "`ulimit -v unlimited`"
        )


NEW_DRIVER = "a driver that is new enough for this torch (nvidia-smi shows it)"
_CURES = {False: "a build of torch with CUDA (this one has none)", True: NEW_DRIVER}
"""What to do where no card is seen, by whether torch could use one."""


def resolve_device(name: str | torch.device) -> torch.device:
    """The torch device for "auto", "cpu", "cuda" or "cuda:INDEX".

    Args:
        name: As on the command line; a device of torch is taken as it is.

    Returns:
        A device that exists.

    Raises:
        InputError: If it does not exist on this machine.
    """
    if isinstance(name, torch.device):
        return name
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        if count:
            _log.info(
                f"computing on {torch.cuda.get_device_name(0)}: this version was checked on a "
                f"pretended card only, and never timed; {argument('device', 'cpu')} keeps to the "
                "processor"
            )
        return torch.device("cuda" if count else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        device = torch.device("meta")  # nothing is computed there
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"{argument('device')}: expected auto, cpu, cuda or cuda:1, got {name!r}")
    if device.type == "cpu":
        return device
    if not count:
        raise InputError(
            f"{argument('device', name)}: cuda was asked for, but torch sees no CUDA device; use "
            f"{argument('device', 'cpu')}, or {_CURES[torch.version.cuda is not None]}"
        )
    if (device.index or 0) >= count:
        raise InputError(
            f"{argument('device', name)}: torch sees {count} CUDA device(s); use "
            f"cuda:0 to cuda:{count - 1}"
        )
    return device


def default_threads() -> int:
    """``OMP_NUM_THREADS`` when it is set, else the CPU cores this process may use."""
    with contextlib.suppress(ValueError):
        asked = int(os.environ.get("OMP_NUM_THREADS", ""))
        if asked >= 1:
            return asked
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def set_threads(threads: int | None) -> int:
    """Set the one thread count of torch, OpenMP (PySCF) and later worker processes.

    Args:
        threads: How many; None means :func:`default_threads`.

    Returns:
        How many were set.
    """
    from pyscf import lib

    count = default_threads() if threads is None else threads
    for name in THREAD_VARIABLES:
        os.environ[name] = str(count)  # inherited by worker processes
    torch.set_num_threads(count)
    lib.num_threads(count)
    return count


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (libraries we call use the global state)
    torch.manual_seed(seed)


@contextlib.contextmanager
def processes_of_one_thread() -> Iterator[None]:
    """A process started in here loads its libraries for one thread.

    Yields:
        Nothing.
    """
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
