"""CUDA graphs of the pretended device: operations recorded once, replayed as one launch.

As on CUDA a capture records what its stream is given and computes nothing (results hold NaN until
the first replay), a replay reads and writes the memory that was captured, and what the host would
have to wait for, or hand over, is refused and spoils the capture. Work of the CPU would be left out
of a replay: it is refused too. Tensors from outside have to be there, unmoved, when the graph is
replayed. Not seen: streams that overlap, and memory that a pool hands out twice.
"""

import contextlib
import dataclasses
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from .counts import INDEXING, SYNCS, Seen, has_mask, is_view
from .streams import DEFAULT, Event, Stream, capturing, current_stream, refuse, stream

_alive: "weakref.WeakSet[Graph]" = weakref.WeakSet()
_one_at_a_time = threading.Lock()


@dataclasses.dataclass
class _Slot:
    """Stands for a tensor that a replay makes."""

    number: int


class Graph:
    """Stands in for ``torch.cuda.CUDAGraph``."""

    def __init__(self):
        self._steps: list[tuple[Any, Any, Any, list[int | None]]] = []
        self._drops: list[list[int]] = []
        self._made: dict[int, tuple[Any, int]] = {}
        self._wrappers: dict[int, Any] = {}
        self._outside: dict[int, tuple[Any, Any, int]] = {}
        self._aliases: set[int] = set()
        self._kept: list[tuple[int, torch.Tensor]] = []
        self._last: dict[int, int] = {}
        self._first: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._spoilt = ""
        self.nbytes = 0
        """Memory at the time when most is there."""
        self.done = False

    # ---- capture

    def begin(self) -> None:
        assert not self.done
        assert current_stream() is not DEFAULT, "graphs must be captured on a non-default stream"
        current_stream().capture = self

    def spoil(self, what: str) -> None:
        self._spoilt = what
        raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing [{what}]")

    def check(self, func: Any, args: Any, *, crosses: bool, on_cpu: Any) -> None:
        """Raise where CUDA would, or where a replay would leave something out."""
        if self._spoilt:
            raise RuntimeError("CUDA error: operation failed due to a previous error in capture")
        if crosses:
            self.spoil(f"copy between host and device, {func}")
        if func in SYNCS or (func in INDEXING and has_mask(args)):
            self.spoil(f"synchronisation, {func}")
        if any(x.ndim for x in on_cpu):
            self.spoil(f"a tensor of the host, {func}")

    def record(self, func: Any, given: tuple[Any, Any], wrappers: Any, found: list[Any]) -> None:
        """One operation.

        Args:
            func: The operation.
            given: Its arguments, as the CPU computes with them.
            wrappers: Tensors of the device among them.
            found: Tensors of the device that came out.
        """
        for one in wrappers:
            if id(one.inner) not in self._made and id(one.inner) not in self._outside:
                moved = one.inner.data_ptr()
                self._outside[id(one.inner)] = weakref.ref(one), weakref.ref(one.inner), moved
        sources = [self._made[id(x.inner)][1] for x in wrappers if id(x.inner) in self._made]
        args, kwargs = (_mapped(self._stands_for, x) for x in given)
        for k in sources:
            self._last[k] = len(self._steps)
        numbers = [self._number(func, x, wrappers, sources) for x in found]
        for number in numbers:
            if number is not None:
                self._last[number] = len(self._steps)
        self._steps.append((func, args, kwargs, numbers))

    def _number(self, func: Any, x: Any, wrappers: Any, sources: list[int]) -> int | None:
        inner = x.inner
        if id(inner) in self._outside:
            return None
        if id(inner) not in self._made:
            number = len(self._made)
            self._made[id(inner)] = inner, number
            self._first[number] = len(self._steps)
            self._wrappers[number] = weakref.ref(x)
            outside = len(sources) < len(wrappers)
            if is_view(func) and (outside or any(k in self._aliases for k in sources)):
                self._aliases.add(number)
            elif not is_view(func):
                self._sizes[number] = inner.numel() * inner.element_size()
        return self._made[id(inner)][1]

    def _stands_for(self, x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        if id(x) in self._made:
            return _Slot(self._made[id(x)][1])
        if id(x) in self._outside:
            return self._outside[id(x)][1]
        return x  # a number of the host, handed over with the launch

    def end(self) -> None:
        current_stream().capture = None
        for inner, number in self._made.values():
            if self._wrappers[number]() is not None:
                self._kept.append((number, inner))
                self._last[number] = len(self._steps)
                if number not in self._aliases and inner.is_floating_point():
                    inner.fill_(torch.nan)
        self._drops = [[] for _ in self._steps]
        for number, step in self._last.items():
            if step < len(self._steps):
                self._drops[step].append(number)
        now, sizes = 0, self._sizes
        for k, (*_, numbers) in enumerate(self._steps):
            now += sum(sizes[n] for n in set(numbers) if n in sizes and self._first[n] == k)
            self.nbytes = max(self.nbytes, now)
            now -= sum(sizes.get(n, 0) for n in self._drops[k])
        self._made.clear()
        self._wrappers.clear()
        if self._spoilt:
            self._steps.clear()
            raise RuntimeError(
                f"CUDA error: operation failed due to a previous error in capture [{self._spoilt}]"
            )
        self.done = True
        _alive.add(self)

    # ---- replay

    def replay(self) -> None:
        assert self.done, "replay without a preceding successful capture"
        refuse("a graph was replayed")
        self._look_at_inputs()
        env: dict[int, torch.Tensor] = {}

        def value(x: Any) -> Any:
            if isinstance(x, _Slot):
                return env[x.number]
            return x() if isinstance(x, weakref.ref) else x

        with _disable_current_modes(), torch.no_grad():
            for k, (func, args, kwargs, numbers) in enumerate(self._steps):
                out = func(*_mapped(value, args), **_mapped(value, kwargs))
                flat = [x for x in _flat((out,)) if isinstance(x, torch.Tensor)]
                made = zip(numbers, flat, strict=True)
                env |= {number: x for number, x in made if number is not None}
                for number in self._drops[k]:
                    del env[number]
            for number, inner in self._kept:
                inner.copy_(env[number])
        _seen().replayed(len(self._steps))

    def _look_at_inputs(self) -> None:
        for wrapper, inner, address in self._outside.values():
            one = wrapper()
            if one is None or inner() is None or one.inner is not inner():
                raise RuntimeError("a graph reads memory that was given back")
            if one.inner.data_ptr() != address:
                raise RuntimeError("a graph reads memory from which its input has moved")

    def reset(self) -> None:
        self.done = False

    def pool(self):
        return (0, 1)


@contextlib.contextmanager
def graph(cuda_graph: Graph, stream=None, capture_error_mode="global", **_: Any) -> Iterator[None]:
    """Stands in for ``torch.cuda.graph``."""
    refuse("a capture within a capture")
    assert capture_error_mode in ("global", "thread_local", "relaxed")
    side = Stream() if stream is None else stream
    assert _one_at_a_time.acquire(blocking=False), "only one capture may be underway at a time"
    try:
        with _switched(side):
            cuda_graph.begin()
            try:
                yield
            finally:
                cuda_graph.end()
    finally:
        _one_at_a_time.release()


_switched = stream


def _flat(values: Any) -> Iterator[Any]:
    for x in values:
        if isinstance(x, list | tuple):
            yield from _flat(x)
        else:
            yield x


def _mapped(function: Any, x: Any) -> Any:
    if isinstance(x, list | tuple):
        return type(x)([_mapped(function, one) for one in x])
    if isinstance(x, dict):
        return {name: _mapped(function, one) for name, one in x.items()}
    return function(x)


def _seen() -> Seen:
    from .pretended import _seen

    return _seen


CUDA = {
    "Stream": Stream,
    "Event": Event,
    "CUDAGraph": Graph,
    "graph": graph,
    "stream": stream,
    "current_stream": current_stream,
    "is_current_stream_capturing": lambda: capturing() is not None,
    "graph_pool_handle": lambda: (0, 1),
    "memory_reserved": lambda *_: sum(one.nbytes for one in _alive),
    "device": lambda *_: contextlib.nullcontext(),
    "synchronize": lambda *_: refuse("the device was waited for"),
}
"""What it gives ``torch.cuda``."""
