"""Launches, copies and synchronisations of a pretended device, with the lines that caused them."""

import dataclasses
import sys
import threading
from collections import Counter
from typing import Any

import torch

aten = torch.ops.aten

COPIES = {aten._to_copy.default, aten.copy_.default}

SYNCS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.bincount.default,
    aten._linalg_check_errors.default,
    aten.is_nonzero.default,
    aten._linalg_eigh.default,
}
"""The host waits for their result: it has to know a value, a shape, or whether they worked."""

INDEXING = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._unsafe_index.Tensor,
    aten._index_put_impl_.default,
    aten._unsafe_index_put.default,
}

JOINING = {aten.stack.default, aten.cat.default}
JOINED = 128
"""Tensors that one kernel joins at most."""

FREE = {
    aten.detach.default,
    aten.alias.default,
    aten.empty.memory_format,
    aten.empty_like.default,
    aten.empty_strided.default,
    aten.new_empty.default,
    aten.new_empty_strided.default,
    aten._unsafe_view.default,
    aten.lift_fresh.default,
    aten.is_same_size.default,
    aten._linalg_check_errors.default,
    aten._local_scalar_dense.default,
    aten.set_.source_Storage_storage_offset,
}
"""No kernel is launched for them."""


@dataclasses.dataclass
class Seen:
    """What has happened since :meth:`reset`.

    Attributes:
        counting: Off, only devices are checked, which is three times faster.
        used: Operations on the device and copies to and from it, counted either way.
        launches: Kernels.
        ops: Launches by operation.
        where: Launches by line of the program.
        syncs: Times the host waited for the device, by line.
        copies: Copies between host and device, by line.
    """

    counting: bool = True
    used: int = 0
    launches: int = 0
    ops: Counter[str] = dataclasses.field(default_factory=Counter)
    where: Counter[str] = dataclasses.field(default_factory=Counter)
    syncs: Counter[str] = dataclasses.field(default_factory=Counter)
    copies: Counter[str] = dataclasses.field(default_factory=Counter)
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, repr=False)

    def reset(self) -> None:
        """Forget everything."""
        self.launches = 0
        for counter in (self.ops, self.where, self.syncs, self.copies):
            counter.clear()

    @property
    def n_syncs(self) -> int:
        """Synchronisations; a copy to the host is one."""
        return sum(self.syncs.values())

    @property
    def n_copies(self) -> int:
        """Copies between host and device."""
        return sum(self.copies.values())

    def report(self, top: int = 15) -> str:
        """The counts and the busiest lines, for a test's message."""
        rows = [f"{self.launches} launches, {self.n_syncs} syncs, {self.n_copies} copies"]
        named = {"launched": self.ops, "launches": self.where}
        named |= {"syncs": self.syncs, "copies": self.copies}
        for name, counter in named.items():
            rows += [f"  {n:6d} {name:8s} {place}" for place, n in counter.most_common(top)]
        return "\n".join(rows)

    def replayed(self, operations: int) -> None:
        """A graph of so many operations."""
        self.used += operations
        if self.counting:
            with self._lock:
                self.launches += 1
                self.ops["graph"] += 1
                self.where[_place()] += 1

    def copied_indices(self, name: str) -> None:
        """Indices on the host into a tensor on the device: legal, and a copy."""
        if self.counting:
            with self._lock:
                self.copies[f"{_place()} [{name}: indices from the host]"] += 1

    def count(self, func: Any, args: Any, *, crosses: bool, to_device: bool) -> None:
        """One operation on the device.

        Args:
            func: The operation.
            args: Its arguments.
            crosses: Whether it copies between host and device.
            to_device: Whether its result is on the device.
        """
        self.used += 1
        if not self.counting:
            return
        name, place = str(func).removeprefix("aten."), _place()
        with self._lock:
            if crosses:
                pinned = ", pinned" if getattr(args[0], "pinned", False) else ""
                self.copies[f"{place} [{'to device' if to_device else 'to host'}{pinned}]"] += 1
                if not to_device:
                    self.syncs[f"{place} [copy to host]"] += 1
                return
            if func in SYNCS or (func in INDEXING and has_mask(args)):
                self.syncs[f"{place} [{name}]"] += 1
            if func in FREE or is_view(func):
                return
            kernels = -(-len(args[0]) // JOINED) if func in JOINING else 1
            self.launches += kernels
            self.ops[name] += kernels
            self.where[place] += kernels


def has_mask(args: Any) -> bool:
    """Whether an index is a mask, whose number of elements the host has to know."""
    kinds = (torch.bool, torch.uint8)
    return any(isinstance(i, torch.Tensor) and i.dtype in kinds for i in args[1] or ())


def is_view(func: Any) -> bool:
    """Whether an operation gives other views of the same memory."""
    returns = func._schema.returns
    return bool(returns) and all(
        r.alias_info is not None and not r.alias_info.is_write for r in returns
    )


def _place() -> str:
    """The innermost line of the package."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/deeph_zero/" in name:
            return f"{name.split('/deeph_zero/')[-1]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return "autograd"
