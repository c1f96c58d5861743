"""Worker processes that compute integrals before they are asked for."""

import dataclasses
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from deeph_zero.errors import argument
from deeph_zero.host.runtime import processes_of_one_thread, set_threads
from deeph_zero.host.signals import leave_to_parent, no_interrupts
from deeph_zero.integrals.calculation import calculation_of
from deeph_zero.integrals.mole import build_mole
from deeph_zero.integrals.portable import Portable
from deeph_zero.integrals.system import portable_part
from deeph_zero.ks.parallel.uploads import Coming, Uploads
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.types import AOMatrix

_log = logging.getLogger("deeph_zero")

PER_WORKER = 2
"""Molecules on order per process: one at work, one done or next."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be computed.

    Attributes:
        molecule: The structure.
        method: What is solved.
        jk_dtype: Fitted two-electron tensors are kept in.
        dm_guess: The starting density, on the CPU, where it is known already.
    """

    molecule: Molecule
    method: Method
    jk_dtype: torch.dtype = torch.float64
    dm_guess: AOMatrix | None = None


class IntegralsAhead:
    """Computes integrals in processes of one thread each.

    Everything taken was computed by a worker, whether it was ready or has to be waited for: the
    bits of a result do not depend on who was faster. If a worker is killed, all of them end, and
    this process computes what is asked for.
    """

    def __init__(self, workers: int, device: torch.device | None = None, at_once: int = 0) -> None:
        """The processes start with the first order.

        Args:
            workers: How many; 0: nothing is ordered, this process computes what is asked for.
            device: A CUDA device that results go to while others are waited for; None: they stay.
            at_once: Molecules that are asked for in one go.
        """
        context = multiprocessing.get_context("spawn")  # forking a process with threads can hang
        self._pool: ProcessPoolExecutor | None = None
        if workers:
            self._pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
        self._orders: dict[Hashable, Future[Portable]] = {}
        self._uploads = Uploads(device) if device is not None and device.type == "cuda" else None
        self._coming: dict[Hashable, Coming[Portable]] = {}
        self.limit = max(PER_WORKER * workers, at_once) if workers else 0

    @property
    def on_order(self) -> int:
        """How many molecules were ordered and not taken."""
        return len(self._orders)

    @property
    def works(self) -> bool:
        """Whether there are processes, or will be with the first order."""
        return self._pool is not None

    def __contains__(self, key: Hashable) -> bool:
        """Whether something of this name was ordered and not taken."""
        return key in self._orders

    def plan(self, wanted: Iterable[tuple[Hashable, Callable[[], Order]]]) -> None:
        """Order what will be asked for next, as far as there is room; give up everything else.

        Args:
            wanted: Names and what they stand for, the most urgent first.
        """
        orders = dict(wanted)
        for key in [key for key in self._orders if key not in orders]:
            self._orders.pop(key).cancel()
            self._coming.pop(key, None)
        for key, order in orders.items():
            if len(self._orders) >= self.limit:
                break
            if key not in self._orders:
                future = self._submitted(order())
                if future is None:
                    return
                self._orders[key] = future
        self._send()

    def _send(self) -> None:
        """Begin to copy what is done to the device, the most urgent first."""
        uploads = self._uploads
        for key, future in self._orders.items():
            if uploads is None or not uploads.has_room:
                return
            if key not in self._coming and future.done() and future.exception() is None:
                try:
                    self._coming[key] = uploads.begin(future.result().moved)
                except torch.OutOfMemoryError:  # others may be gone when it is needed
                    return

    def take(self, key: Hashable, order: Order) -> Portable:
        """What was ordered under a name, or is ordered now.

        Args:
            key: Its name.
            order: What it is.

        Returns:
            Integrals, grid points and starting density, on the device if they are there already.

        Raises:
            InputError: If the molecule or method cannot be used.
            ComputationError: If it cannot be computed.
        """
        future = self._orders.pop(key, None) or self._submitted(order)
        coming = self._coming.pop(key, None)
        if coming is not None:
            return coming.use()
        if future is not None:
            try:
                return future.result()
            except BrokenProcessPool:
                self._give_up()
        return computed(order)

    def close(self, *, wait: bool = True) -> None:
        """End the processes; what they are at is lost.

        Args:
            wait: For their end, which comes when they have finished what they are at.
        """
        self._orders.clear()
        self._coming.clear()
        pool, self._pool = self._pool, None
        if pool is not None:
            # Python waits for them before it exits in any case: here nothing is left behind
            pool.shutdown(wait=wait, cancel_futures=True)

    def _submitted(self, order: Order) -> "Future[Portable] | None":
        if self._pool is None:
            return None
        with processes_of_one_thread(), no_interrupts():  # processes start in here
            try:
                return self._pool.submit(computed, order)
            except BrokenProcessPool:
                self._give_up()
                return None

    def _give_up(self) -> None:
        if self._pool is not None:
            _log.warning(
                "a worker process for integrals ended (out of memory?): they are computed in the "
                "main process from now on; use fewer %s (or %s, where nothing was said of them)",
                argument("workers"),
                argument("threads"),
            )
        self.close()


def _begin() -> None:
    """In a new process, which ends with the one that gives out work."""
    leave_to_parent()
    set_threads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """A killed process cannot tell its workers."""
    parent.join()
    os._exit(1)


def computed(order: Order) -> Portable:
    """Integrals, grid points and starting density, made in this process.

    Args:
        order: What is to be computed.

    Returns:
        They, on the CPU.

    Raises:
        InputError: If the molecule or method cannot be used.
        ComputationError: If it cannot be computed.
    """
    mol = build_mole(order.molecule, basis=order.method.basis)
    found = calculation_of(mol, order.method)
    return portable_part(found, dm_guess=order.dm_guess, jk_dtype=order.jk_dtype)
