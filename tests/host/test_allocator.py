"""Freed memory is kept for what comes next, counted as free, and left to who has decided else."""

import ctypes
import os
import subprocess
import sys

import pytest

from deeph_zero.host import allocator

GLIBC = hasattr(ctypes.CDLL(None), "mallinfo2")
SCRIPT = """
import ctypes
from deeph_zero.host import allocator
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
told = allocator.keep_freed_memory()
taken = [library.malloc(10**7) for _ in range(10)]
before = allocator.kept_mb()
for one in taken:
    library.free(one)
print(told, before < 50, allocator.kept_mb() > 90)
"""


@pytest.mark.skipif(not GLIBC, reason="another C library")
@pytest.mark.parametrize("own", [{}, {"MALLOC_TRIM_THRESHOLD_": "100000"}])
def test_freed_memory_is_kept_unless_malloc_was_told_otherwise(own):
    env = {k: v for k, v in os.environ.items() if k not in allocator._USERS_OWN} | own
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True
    )
    kept = not own
    assert done.stdout.split() == [str(kept), "True", str(kept)]


def test_another_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert allocator.keep_freed_memory.__wrapped__() is False
    assert allocator.kept_mb() == 0.0
