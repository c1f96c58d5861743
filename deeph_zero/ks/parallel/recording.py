"""A function of tensors, recorded once and then run without Python between its operations.

A functional is some hundred short operations. One by one from Python each costs a few microseconds
more than it has to, and two threads hand Python's lock to and fro at every one; as a recorded graph
they are one call, which neither needs the lock nor changes a bit of the result.
"""

import threading
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Operations = Callable[..., tuple[Tensor, ...]]
_recording = threading.Lock()


def recorded(function: Operations, *shapes: tuple[int, ...]) -> Operations:
    """A function of tensors, run by TorchScript.

    Args:
        function: Tensors in, tensors out, without a graph; which operations it consists of must
            not depend on values or on the lengths of axes.
        *shapes: Shapes of example arguments; float64 and on the processor.

    Returns:
        The recorded function; ``function`` itself where torch cannot record it.
    """
    generator = torch.Generator().manual_seed(0)
    example = tuple(torch.rand(x, generator=generator, dtype=torch.float64) + 0.1 for x in shapes)
    with _recording, warnings.catch_warnings(record=True) as notes, torch.no_grad():
        # the tracer is deprecated for compilers that need a C++ compiler on the user's machine
        warnings.simplefilter("always")
        try:
            graph: Any = torch.jit.trace(function, example, check_trace=False)
        except (AttributeError, RuntimeError):
            return function
    if any(issubclass(note.category, torch.jit.TracerWarning) for note in notes):
        return function  # values chose an operation

    def run(*arguments: Tensor) -> tuple[Tensor, ...]:
        # as it was recorded: optimising it for every new size costs more than it gains
        with torch.no_grad(), torch.jit.optimized_execution(False):
            return graph(*arguments)

    return run
