"""Threads, seeds, devices, deadlines, and a limit of address space that leaves nothing."""

import math
import os
import resource
from pathlib import Path

import pytest
import torch

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host import runtime
from deeph_zero.host.signals import Interrupt
from deeph_zero.integrals import two_electron
from deeph_zero.settings.config import RuntimeConfig

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


@pytest.fixture
def one_thread():
    threads, environ = torch.get_num_threads(), dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environ)
    runtime.set_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_one_setting_governs_all_threads():
    from pyscf import lib

    assert runtime.setup(RuntimeConfig(device="cpu", threads=1)).threads == 1
    assert (torch.get_num_threads(), lib.num_threads()) == (1, 1)
    assert runtime.setup(RuntimeConfig(device="cpu", threads=2)).threads == 2
    assert (torch.get_num_threads(), lib.num_threads()) == (2, 2)
    assert os.environ["OMP_NUM_THREADS"] == "2"
    os.environ["OMP_NUM_THREADS"] = "1"
    assert runtime.default_threads() == 1
    os.environ["OMP_NUM_THREADS"] = "many"
    assert runtime.default_threads() >= 1


@pytest.mark.usefixtures("one_thread")
def test_same_seed_same_numbers():
    runtime.setup(RuntimeConfig(device="cpu", threads=1, seed=5))
    first = torch.rand(3)
    runtime.setup(RuntimeConfig(device="cpu", threads=1, seed=5))
    assert torch.equal(first, torch.rand(3))
    runtime.setup(RuntimeConfig(device="cpu", threads=1, seed=6))
    assert not torch.equal(first, torch.rand(3))


def test_devices_without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.resolve_device("auto") == torch.device("cpu")
    assert runtime.resolve_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        with pytest.raises(InputError, match="torch sees no CUDA device; use device='cpu'"):
            runtime.resolve_device(name)
    for built_for, cure in ((None, "a build of torch with CUDA"), ("13.0", "a driver that is new")):
        monkeypatch.setattr(torch.version, "cuda", built_for)
        with pytest.raises(InputError, match=cure):
            runtime.resolve_device("cuda")
    for name in ("cpux", "mps"):
        with pytest.raises(InputError, match="expected auto, cpu, cuda"):
            runtime.resolve_device(name)
    device = torch.device("cuda:3")
    assert runtime.resolve_device(device) is device, "who makes one has looked"


def test_devices_with_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"card {index}")
    assert runtime.resolve_device("auto").type == "cuda"
    assert runtime.resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="use cuda:0 to cuda:1"):
        runtime.resolve_device("cuda:2")


@pytest.mark.parametrize(
    ("signum", "at", "expected"),
    [
        (None, None, None),
        (2, None, "interrupt"),
        (None, -1.0, "max_time"),
        (2, -1.0, "interrupt"),
    ],
)
def test_why_nothing_further_is_begun(signum, at, expected):
    interrupt = Interrupt()
    interrupt.signum = signum
    assert runtime.stop_reason(interrupt, runtime.Deadline(at)) == expected


def test_the_clock_starts_with_the_command(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(runtime.time, "monotonic", lambda: now[0])
    late = runtime.Deadline.after(10.0, started=89.0)
    assert (late.expired(), late.remaining()) == (True, 0.0)
    fresh = runtime.Deadline.after(10.0)
    now[0] += 0.5
    assert (fresh.expired(), fresh.remaining()) == (False, 9.5)
    assert runtime.Deadline.after(None).remaining() == float("inf")
    assert not runtime.Deadline.after(None).expired()
