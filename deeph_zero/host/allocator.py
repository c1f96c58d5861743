"""What the C library's malloc does with freed memory: kept for the next geometry, not handed back.

A geometry frees hundreds of MB that the next one asks for again. Handed back to the system and
taken anew, every page of them is cleared and mapped once more: half of the time in which AO values
of a small molecule are made. Only glibc can be told so.
"""

import ctypes
import functools
import os

KEEP_MB = 1250
"""Most that is kept: the AO values that a calculation may hold, and what stands beside them."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_OF_HEAP = 32 * 2**20
"""glibc maps anything larger by itself, whatever it is told."""
_USERS_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


class _Counts(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


@functools.cache
def keep_freed_memory() -> bool:
    """Keep freed memory in this process, unless the user has told malloc something else.

    Returns:
        Whether malloc was told.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or any(name in os.environ for name in _USERS_OWN):
        return False
    told = library.mallopt(_MMAP_THRESHOLD, _LARGEST_OF_HEAP)
    return bool(told and library.mallopt(_TRIM_THRESHOLD, KEEP_MB * 10**6))


def kept_mb() -> float:
    """Memory that malloc keeps and will use first, whole MB; the system counts it as taken."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        return 0.0
    library.mallinfo2.restype = _Counts
    return float(library.mallinfo2().keepcost // 10**6)
