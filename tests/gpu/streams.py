"""Streams and events of the pretended device, and copies that are made when somebody waits.

Copies out of pinned memory in a stream of their own are put off until an event behind them is
waited for, and read the pinned memory then: until that moment the tensor on the device holds NaN.
"""

import contextlib
import threading
import weakref
from typing import Any

import torch

_here = threading.local()
_marks: "weakref.WeakSet[Event]" = weakref.WeakSet()


class Stream:
    """Work that comes one after another."""

    def __init__(self, *_, **__):
        self.capture: Any = None
        self.pending: list[tuple[Any, torch.Tensor]] = []

    def wait_stream(self, other):
        if other.capture is not None:
            other.capture.spoil("a stream waits for one that is captured")

    def wait_event(self, event):
        event.arrive()

    def record_event(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def synchronize(self):
        refuse("a stream was waited for")


DEFAULT = Stream()


class Event:
    """A mark in a stream, passed when somebody waits for it, or :func:`catch_up`."""

    def __init__(self, *_, **__):
        self._copies: list[tuple[Any, torch.Tensor]] = []
        _marks.add(self)

    def record(self, stream):
        self._copies, stream.pending = stream.pending, []

    def wait(self, _stream=None):
        self.arrive()

    def query(self):
        refuse("an event was asked for")
        return not self._copies

    def synchronize(self):
        refuse("an event was waited for")
        self.arrive()

    def arrive(self):
        """Make the copies before the mark, of what there is in pinned memory now."""
        for source, inner in self._copies:
            held = source()
            if held is None:
                raise RuntimeError("pinned memory was given back before its copy was made")
            inner.copy_(held)
        self._copies = []


def current_stream(*_):
    return getattr(_here, "stream", DEFAULT)


@contextlib.contextmanager
def stream(wanted):
    before = current_stream()
    _here.stream = wanted
    try:
        yield
    finally:
        _here.stream = before


def capturing() -> Any:
    """The graph that this thread's work goes into."""
    return current_stream().capture


def refuse(what: str) -> None:
    """What nobody may do while a stream is captured.

    Raises:
        RuntimeError: As CUDA does.
    """
    graph = capturing()
    if graph is not None:
        graph.spoil(what)


def catch_up() -> None:
    """Let time pass until the device has done everything."""
    for one in list(_marks):
        one.arrive()


def pin_memory(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
    """A copy that says it is pinned."""
    refuse("pinned memory was asked for")
    out = tensor.clone()
    out.pinned = True
    return out


def put_off(source: Any, found: torch.Tensor, kwargs: dict[str, Any]) -> None:
    """Make a copy to the device later, if it may be.

    Args:
        source: What is copied.
        found: The copy, as it is on the device.
        kwargs: Of the operation.
    """
    stream, pinned = current_stream(), getattr(source, "pinned", False)
    if pinned and kwargs.get("non_blocking") and stream is not DEFAULT:
        found.fill_(torch.nan if found.is_floating_point() else 0)
        stream.pending.append((weakref.ref(source), found))
