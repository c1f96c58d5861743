"""Numbers too small for float32's normal range count as zero while products are made in float32."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """This thread's processor takes denormal numbers for zero, where it can.

    AO values fall off to nothing, in float32 by way of denormal numbers, and products with these
    take several times as long as others.

    Yields:
        Nothing.
    """
    before = float(torch.tensor(1e-310, dtype=torch.float64).mul_(1.0)) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
