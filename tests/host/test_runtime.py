"""A limit of address space that leaves nothing is refused before any library waits within it."""

import math
import resource
from pathlib import Path

import pytest

from deeph_zero.errors import ComputationError
from deeph_zero.host import runtime
from deeph_zero.integrals import two_electron

USED = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc").exists() else 0


def limited(monkeypatch, limit):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))


def test_without_a_limit_there_is_no_end(monkeypatch):
    limited(monkeypatch, resource.RLIM_INFINITY)
    assert runtime.address_space_left_mb() == math.inf
    runtime.check_address_space()


@pytest.mark.skipif(not USED, reason="a system without /proc")
def test_a_limit_that_leaves_nothing_is_one_line(monkeypatch):
    limited(monkeypatch, 1_000_000)
    assert runtime.address_space_left_mb() == 0
    with pytest.raises(ComputationError, match=r"\(ulimit -v\) leaves 0 MB .*; raise it") as error:
        runtime.check_address_space()
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not USED, reason="a system without /proc")
def test_a_limit_counts_as_memory_that_is_free(monkeypatch):
    monkeypatch.setattr(two_electron, "kept_mb", lambda: 0.0)
    before = two_electron.available_memory_mb()
    limited(monkeypatch, 10**15)
    assert 0 < runtime.address_space_left_mb() < 1e9
    runtime.check_address_space()
    limited(monkeypatch, 1_000_000)
    assert before > 0 == two_electron.available_memory_mb()
    monkeypatch.setattr(two_electron, "kept_mb", lambda: 7.0)  # taken, but free for what comes
    assert two_electron.available_memory_mb() == 7
