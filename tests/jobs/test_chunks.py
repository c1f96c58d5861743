"""Structures of one call on a device: as many as fit, with integrals of workers, none twice."""

import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.runtime import set_threads
from deeph_zero.integrals.ahead import Order
from deeph_zero.integrals.portable import Portable
from deeph_zero.jobs import chunks as chunks_module
from deeph_zero.jobs.chunks import Chunks, Together
from deeph_zero.jobs.tasks import Tasks
from deeph_zero.ks.parallel.room import Room
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule


class Sized(Portable):
    """Integrals of a stated size; those of the fourth structure do not go to a device."""

    def __init__(self, frame, memory_bytes):
        vars(self).update(frame=frame, stated=memory_bytes)

    memory_bytes = property(lambda self: self.stated)
    two = property(lambda self: self)

    def to(self, device):
        if device.type == "cuda" and self.frame == 3:
            raise torch.OutOfMemoryError
        return self


def tasks(sizes):
    return [
        (k, Molecule(numbers=np.ones(n, dtype=int), coords=np.zeros((n, 3)), file="m", frame=k))
        for k, n in enumerate(sizes)
    ]


class Workers:
    """Instead of processes: what they were told."""

    def __init__(self, log, bad=()):
        self.log, self.bad, self.limit, self.works, self.orders = log, bad, 0, True, []

    def __call__(self, workers, device, at_once):
        del device
        self.limit = max(2 * workers, at_once) if workers else 0
        return self

    def plan(self, wanted):
        self.orders = [(key, order()) for key, order in wanted][: self.limit]
        self.log.append([key for key, _ in self.orders])

    def __contains__(self, key):
        return key in dict(self.orders)

    def take(self, key, order):
        if key in self.bad:
            raise ComputationError("no memory")
        self.orders = [one for one in self.orders if one[0] != key]
        return made(order)

    @property
    def on_order(self):
        return len(self.orders)

    def close(self, *, wait):
        self.log.append(f"closed, waited: {wait}")


def made(order):
    return Sized(order.molecule.frame, 1000 * len(order.molecule.numbers) ** 3)


class Work:
    """What is computed of it: at most four at once."""

    at_once, device, room = 4, torch.device("cpu"), Room(4)

    def __init__(self, refused=()):
        self.refused = refused

    def order(self, molecule):
        if molecule.frame in self.refused:
            raise InputError("unknown element")
        return Order(molecule=molecule, method=Method())

    def several(self, *_):
        raise AssertionError

    __call__ = several


@pytest.fixture
def log():
    return []


@pytest.fixture
def draw(monkeypatch, log):
    """All chunks of structures of stated sizes, and how much of the host's memory is free."""

    def run(sizes, *, workers=2, free_mb=1000.0, work=None, bad=(), stop=lambda: None):
        work = work or Work()
        assert isinstance(work, Together)
        monkeypatch.setattr(chunks_module, "IntegralsAhead", Workers(log, bad))
        monkeypatch.setattr(chunks_module, "computed", lambda one: log.append("here") or made(one))
        monkeypatch.setattr(chunks_module, "available_memory_mb", lambda: free_mb)
        found = []
        with Chunks(Tasks(iter(tasks(sizes)), stop), work, workers=workers, threads=1) as chunks:
            while some := chunks.draw():
                found.append([(one.task[0], one.alone) for one in some])
        return found

    return run


def numbers(found):
    return [[k for k, _ in chunk] for chunk in found]


def test_the_next_chunk_is_on_order_while_one_is_computed(draw, log):
    assert numbers(draw([2] * 10)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert log[:4] == ["here", [1, 2, 3, 4], [2, 3, 4, 5], [3, 4, 5, 6]]
    assert log[4:6] == [[4, 5, 6, 7], [4, 5, 6, 7]], "after the first chunk, and for the next"
    assert log[-1] == "closed, waited: True"


def test_without_workers_nothing_is_ordered(draw, log):
    assert numbers(draw([2] * 5, workers=0)) == [[0, 1, 2, 3], [4]]
    assert not any(one for one in log if isinstance(one, list))


def test_orders_stay_within_the_memory_of_the_machine(draw, log):
    draw([2] * 6, free_mb=4 * 17e-3)  # 17 kB may be on order: two of 8 kB
    assert [len(one) for one in log if isinstance(one, list)][:3] == [2, 2, 2]
    log.clear()
    draw([2, 4, 4, 4], free_mb=4 * 17e-3)  # larger ones are estimated before they are ordered
    assert next(len(one) for one in log if isinstance(one, list)) == 1


def test_what_does_not_fit_the_device_waits_for_the_next_chunk(draw, log, monkeypatch):
    monkeypatch.setattr(chunks_module, "stack_fits", lambda nbytes, _: nbytes <= 30_000)
    assert numbers(draw([2] * 8)) == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert numbers(draw([4, 4, 2])) == [[0], [1], [2]], "one goes whatever its size"
    assert log.count("here") == 2


def test_what_is_refused_goes_alone_and_in_its_place(draw):
    found = draw([2] * 8, work=Work(refused={1, 2}), bad={5})
    assert numbers(found) == [[0], [1], [2], [3, 4], [5], [6, 7]]
    assert [k for chunk in found for k, alone in chunk if alone] == [1, 2, 5]


def test_who_stops_waits_for_no_integrals(draw, log):
    asked = []
    found = draw([2] * 8, stop=lambda: "interrupt" if len(asked) > 5 else asked.append(0))
    assert numbers(found) == [[0, 1, 2]]
    assert [4, 5, 6, 7] not in log
    assert log[-1] == "closed, waited: False"


def test_nobody_waits_for_processes_where_something_went_wrong(monkeypatch, log):
    monkeypatch.setattr(chunks_module, "IntegralsAhead", Workers(log))
    with pytest.raises(KeyboardInterrupt), Chunks(Tasks(iter([])), Work(), workers=1, threads=1):
        raise KeyboardInterrupt
    assert log == ["closed, waited: False"]


def test_threads_are_shared_and_come_back(monkeypatch, log):
    told, workers = [], Workers(log)
    monkeypatch.setattr(chunks_module, "IntegralsAhead", workers)
    monkeypatch.setattr(chunks_module, "computed", made)
    monkeypatch.setattr(chunks_module, "set_threads", told.append)
    with Chunks(Tasks(iter(tasks([2, 2]))), Work(), workers=3, threads=8) as chunks:
        workers.works = False  # one of them died
        chunks.draw()
    assert told == [5, 8, 8]
    set_threads(1)
