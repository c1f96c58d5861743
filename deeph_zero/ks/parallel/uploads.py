"""Tensors on their way to a CUDA device, through pinned memory: the host does not wait for them.

From ordinary memory the host waits for every copy, and for all work before it. Pinned memory is
read by the device itself, and has to stay as it is until then: torch's allocator sees to that for
copies in the stream that the work is in, :class:`Uploads` for those in a stream of their own, which
go on beside the work.
"""

import dataclasses
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Move = Callable[[Tensor], Tensor]
"""A tensor of the host to the same on the device."""

AT_ONCE = 4
"""Things on their way at a time, whose pinned memory is held."""


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on a device; work that is given to the device later finds it there.

    Args:
        tensor: Anywhere.
        device: Where to.

    Returns:
        The copy there; the tensor itself if it is there already.
    """
    if torch.device(device).type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return _pinned(tensor).to(device, non_blocking=True)


def _pinned(tensor: Tensor) -> Tensor:
    """A copy that the device can read; the tensor itself, which is only slower, without memory."""
    try:
        return tensor.pin_memory()
    except RuntimeError:
        return tensor


@dataclasses.dataclass(frozen=True)
class Coming(Generic[T]):
    """What is on its way."""

    what: T
    tensors: tuple[Tensor, ...]
    arrival: Any

    def use(self) -> T:
        """It; what is given to the device from now on waits for its arrival, the host does not."""
        if self.tensors:
            current = torch.cuda.current_stream(self.tensors[0].device)
            current.wait_event(self.arrival)
            for one in self.tensors:
                one.record_stream(current)
        return self.what


class Uploads:
    """Copies in a stream of their own, a bounded number at a time."""

    def __init__(self, device: torch.device) -> None:
        """None yet.

        Args:
            device: A CUDA device.
        """
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._held: deque[tuple[Any, list[Tensor]]] = deque()

    @property
    def has_room(self) -> bool:
        """Whether one more may begin; pinned memory whose copies are done is given back."""
        while self._held and self._held[0][0].query():
            self._held.popleft()
        return len(self._held) < AT_ONCE

    def begin(self, work: Callable[[Move], T]) -> Coming[T]:
        """Send what something consists of.

        Args:
            work: Makes it on the device, by a function that moves one tensor.

        Returns:
            What is on its way.
        """
        pinned: list[Tensor] = []
        there: list[Tensor] = []

        def move(tensor: Tensor) -> Tensor:
            if tensor.device.type != "cpu":
                return tensor
            pinned.append(_pinned(tensor))
            there.append(pinned[-1].to(self._device, non_blocking=True))
            return there[-1]

        with torch.cuda.stream(self._stream):
            what = work(move)
            arrival = self._stream.record_event()
        self._held.append((arrival, pinned))
        return Coming(what, tuple(there), arrival)
