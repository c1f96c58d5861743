"""Integrals on their way to a device: pinned, beside the work, and never read too early."""

from concurrent.futures import Future

import numpy as np
import pytest
import torch

from deeph_zero.integrals import ahead as ahead_module
from deeph_zero.integrals.ahead import IntegralsAhead, Order
from deeph_zero.ks.parallel.uploads import AT_ONCE, Uploads, sent
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule

from .streams import catch_up

pytestmark = [pytest.mark.gpu, pytest.mark.counts]

CUDA = torch.device("cuda")
VALUES = torch.arange(3.0)


def assert_pinned(seen, count):
    if seen is not None:
        assert (seen.n_copies, seen.n_syncs) == (count, 0), seen.report()
        assert all("pinned" in place for place in seen.copies), seen.report()


def test_nobody_waits_for_a_copy_to_the_device(seen):
    found = sent(VALUES, "cuda")
    assert_pinned(seen, 1)
    assert found.device.type == "cuda"
    assert sent(found, CUDA) is found
    assert sent(VALUES, "cpu") is VALUES
    assert torch.equal(found.cpu(), VALUES)


def test_without_pinned_memory_a_copy_is_slower_and_right(monkeypatch):
    def none_left(*_):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.Tensor, "pin_memory", none_left)
    assert torch.equal(sent(VALUES, CUDA).cpu(), VALUES)
    coming = Uploads(CUDA).begin(lambda move: move(VALUES))
    assert torch.equal(coming.use().cpu(), VALUES)


def test_what_comes_is_there_when_it_is_used(seen):
    uploads = Uploads(CUDA)
    coming = uploads.begin(lambda move: [move(VALUES), move(VALUES + 1)])
    assert_pinned(seen, 2)
    if seen is not None:
        assert coming.what[0].isnan().all()  # under way
    first, second = coming.use()
    assert torch.equal(first.cpu(), VALUES)
    assert torch.equal(second.cpu(), VALUES + 1)


def test_a_bounded_number_is_under_way_and_pinned_memory_outlives_its_copies(seen):
    uploads = Uploads(CUDA)
    coming = []
    for k in range(AT_ONCE):
        assert seen is None or uploads.has_room
        coming.append(uploads.begin(lambda move, k=k: move(VALUES + k)))
    if seen is not None:
        assert not uploads.has_room
        catch_up()
        assert uploads.has_room
    del coming[0]  # nobody wants it any more
    for k, one in enumerate(coming, start=1):
        assert torch.equal(one.use().cpu(), VALUES + k)


class TestIntegralsAhead:
    """Of workers, which are this process here."""

    METHOD = Method(basis="sto-3g", grid_level=0)

    @pytest.fixture
    def pool(self, monkeypatch):
        def at_once(_, order):
            future = Future()
            future.set_result(ahead_module.computed(order))
            return future

        monkeypatch.setattr(IntegralsAhead, "_submitted", at_once)
        return IntegralsAhead(3, CUDA)

    def order(self, k):
        coords = np.array([[0, 0, 0], [0.2, 0.1 * k, 1.4]])
        return Order(molecule=Molecule(numbers=np.array([1, 1]), coords=coords), method=self.METHOD)

    def test_they_are_on_the_device_before_they_are_asked_for(self, seen, pool):
        wanted = [(k, lambda k=k: self.order(k)) for k in range(AT_ONCE + 2)]
        pool.plan(wanted)
        assert_pinned(seen, seen and seen.n_copies)
        for k in range(AT_ONCE + 2):
            if seen is not None:
                seen.reset()
            found, alone = pool.take(k, self.order(k)), ahead_module.computed(self.order(k))
            there = found.one.ovlp.device.type == "cuda"
            assert there == (k < AT_ONCE)
            assert seen is None or (seen.n_copies, seen.n_syncs) == (0, 0)
            found = found.to(CUDA)
            for one, other in (
                (found.one.hcore, alone.one.hcore),
                (found.two.coulomb.cderi, alone.two.coulomb.cderi),
                (found.dm_guess, alone.dm_guess),
            ):
                assert one.device.type == "cuda"
                assert torch.equal(one.cpu(), other)

    def test_plans_change_while_they_are_under_way(self, pool):
        pool.plan([(0, lambda: self.order(0))])
        pool.plan([(1, lambda: self.order(1))])
        pool.plan([])
        found = pool.take(0, self.order(0))
        assert found.one.ovlp.device.type == "cpu"

    def test_a_full_device_takes_them_later(self, pool, monkeypatch):
        def full(*_):
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(Uploads, "begin", full)
        pool.plan([(0, lambda: self.order(0))])
        assert pool.take(0, self.order(0)).one.ovlp.device.type == "cpu"
