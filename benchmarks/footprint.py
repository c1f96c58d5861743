"""Set-up time and peak memory of a Fock build, in a forked process of its own."""

import ctypes
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pyscf import lib


def trim() -> None:
    """Give freed memory back to the system, so that a child starts from what is in use (glibc)."""
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)


def resident_mb(field: str) -> float:
    """``VmRSS`` (now) or ``VmHWM`` (highest so far) of this process, MB; Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def measured(make: Callable[[], Callable[[], Any]]) -> dict[str, float]:
    """Run a set-up and two builds in a child with one thread.

    Args:
        make: The set-up; returns the build.

    Returns:
        ``setup``: CPU seconds of the set-up; ``peak_mb``: the most resident memory of set-up and
        builds above what the process had before, NaN without Linux.
    """
    trim()
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(sending, json.dumps(_inside(make)).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(sending)
    with os.fdopen(receiving) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"setup": float("nan"), "peak_mb": float("nan")}


def _inside(make: Callable[[], Callable[[], Any]]) -> dict[str, float]:
    torch.set_num_threads(1)  # thread pools do not survive a fork
    lib.num_threads(1)
    on_linux = Path("/proc/self/status").exists()
    before = resident_mb("VmRSS") if on_linux else float("nan")
    started = time.process_time()
    build = make()
    setup = time.process_time() - started
    for _ in range(2):
        build()
    return {"setup": setup, "peak_mb": (resident_mb("VmHWM") if on_linux else before) - before}
