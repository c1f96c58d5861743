"""Functions of grid points as CUDA graphs: captured once, then one launch each time.

A functional is some hundred kernels, each of which costs the host more than the device. Captured
they are one launch, of the same kernels in the same order: no bit changes. A graph reads and writes
the same memory every time, so it has tensors of its own, whose length is a power of two and which
are filled in part.

Whatever stands against it (a processor, a capture that fails, too little memory) leaves the
function as it is, operation by operation.
"""

import dataclasses
import logging
import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

Operations = Callable[..., tuple[Tensor, ...]]

_log = logging.getLogger("deeph_zero")

SWITCH = "DEEPH_ZERO_CUDA_GRAPHS"
"""Environment variable; 0 leaves every function as it is."""
FEWEST, MOST = 2**12, 2**19
"""Points of the smallest graph and of the largest one of a function of one argument; each further
argument (a higher derivative, which keeps more at a time) halves the latter. With more points a
kernel takes the device longer than its launch takes the host."""
WORTH = 3
"""The call at which a function is captured: capturing costs three calls."""
GRAPHS = 32
"""Graphs at a time; the one that was not used for longest goes."""
SHARE_OF_CARD = 0.05
"""Part of the card's memory that graphs keep for themselves."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Captured:
    """A graph with the memory that it reads and writes."""

    graph: Any
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    def __call__(self, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        n = arguments[0].shape[-1]
        for given, held in zip(arguments, self.inputs, strict=True):
            held[..., :n].copy_(given)
        self.graph.replay()
        return tuple(x[..., :n].clone(memory_format=torch.contiguous_format) for x in self.outputs)


class Graphs:
    """The graphs of this process. One thread at a time uses them."""

    def __init__(self) -> None:
        """None yet."""
        self._lock = threading.Lock()
        self._ready: OrderedDict[Hashable, _Captured] = OrderedDict()
        self._calls: Counter[Hashable] = Counter()
        self._refused: set[Hashable] = set()
        self._places: dict[torch.device, _Place] = {}
        self._broken = False

    def __len__(self) -> int:
        """Number of graphs."""
        return len(self._ready)

    def call(self, key: Hashable, function: Operations, *arguments: Tensor) -> tuple[Tensor, ...]:
        """What a function gives, from its graph where there is one.

        Args:
            key: Equal for functions that do the same.
            function: Tensors [..., points] in, tensors [..., points] out, without a graph of
                derivatives. A point's results depend on that point alone, and which operations it
                consists of on no value.
            *arguments: Of one device and type.

        Returns:
            The function's results.
        """
        first = arguments[0]
        if first.device.type != "cuda":
            return function(*arguments)
        size = max(FEWEST, 2 ** (first.shape[-1] - 1).bit_length())
        if self._possible(arguments, size):
            leads = tuple(x.shape[:-1] for x in arguments)
            slot = key, size, leads, first.dtype, first.device
            with self._lock:
                captured = self._found(slot, function, arguments, size)
                if captured is not None:
                    self._places[first.device].enter()
                    return captured(arguments)
        # derivatives are then summed in the order of a graph's
        with torch.autograd.set_multithreading_enabled(False):
            return function(*arguments)

    def release(self) -> None:
        """Let go of all graphs and their memory; what is used again is captured again."""
        with self._lock:
            self._release()

    def _possible(self, arguments: tuple[Tensor, ...], size: int) -> bool:
        if self._broken or not arguments[0].numel() or size > MOST >> (len(arguments) - 1):
            return False
        if os.environ.get(SWITCH) == "0" or any(x.requires_grad for x in arguments):
            return False
        # tensors of that mode may not be written to outside; somebody captures a larger piece
        other = torch.is_inference_mode_enabled() or torch.cuda.is_current_stream_capturing()
        return not other

    def _found(
        self, slot: Hashable, function: Operations, arguments: tuple[Tensor, ...], size: int
    ) -> _Captured | None:
        if slot in self._ready:
            self._ready.move_to_end(slot)
            return self._ready[slot]
        if slot in self._refused:
            return None
        self._calls[slot] += 1
        if self._calls[slot] < WORTH:
            if len(self._calls) > 16 * GRAPHS:  # of shapes that come once or twice
                self._calls.clear()
            return None
        del self._calls[slot]
        return self._capture(slot, function, arguments, size)

    def _capture(
        self, slot: Hashable, function: Operations, arguments: tuple[Tensor, ...], size: int
    ) -> _Captured | None:
        device = arguments[0].device
        captured, reason = None, ""
        # a failure is let go of before memory is given back: it holds what was computed
        try:
            place = self._places.setdefault(device, _Place(device))
            captured, grown = place.capture(function, arguments, size)
            place.nbytes += grown
            if place.nbytes <= SHARE_OF_CARD * torch.cuda.mem_get_info(device)[1]:
                while len(self._ready) >= GRAPHS:
                    torch.cuda.synchronize(device)  # it may be at work
                    self._ready.popitem(last=False)
                self._ready[slot] = captured
                return captured
        except torch.OutOfMemoryError:
            pass
        except (AttributeError, RuntimeError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
        captured = None
        self._refused.add(slot)
        self._release()
        if reason:  # nobody knows what a capture that broke off leaves behind
            self._broken = True
            _log.warning(
                "functionals are evaluated operation by operation, without CUDA graphs (%s)", reason
            )
        return None

    def _release(self) -> None:
        for device in self._places:
            torch.cuda.synchronize(device)
        self._ready.clear()
        self._places.clear()
        if not self._broken:
            torch.cuda.empty_cache()


class _Place:
    """What the graphs of one device share.

    They are replayed one after another, so one memory for what lies between their inputs and
    outputs is enough.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._last: Any = None
        self.nbytes = 0
        """What graphs keep, measured."""

    def enter(self) -> None:
        """Wait, on the device, for the last user of the common memory."""
        current = torch.cuda.current_stream(self._device)
        if self._last is not None and self._last != current:
            current.wait_stream(self._last)
        self._last = current

    def capture(
        self, function: Operations, arguments: tuple[Tensor, ...], size: int
    ) -> tuple[_Captured, int]:
        """A function as a graph, and by how many bytes the graphs' memory grew."""
        current = torch.cuda.current_stream(self._device)
        with (
            torch.cuda.device(self._device),
            # what is captured has to come from this thread
            torch.autograd.set_multithreading_enabled(False),
            # a capture that breaks off leaves its own stream as the current one
            torch.cuda.stream(current),
        ):
            inputs = tuple(x.new_zeros(*x.shape[:-1], size) for x in arguments)
            # kernels are loaded, and what is made once is made, before
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                function(*inputs)
            current.wait_stream(self._stream)
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            before = torch.cuda.memory_reserved(self._device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                capture_error_mode="thread_local",  # others may work meanwhile
            ):
                outputs = function(*inputs)
            grown = torch.cuda.memory_reserved(self._device) - before
        return _Captured(graph, inputs, outputs), grown


GRAPHS_HERE = Graphs()
"""Those of this process."""
