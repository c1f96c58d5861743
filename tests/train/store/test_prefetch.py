"""What is ordered ahead of the training steps: only what costs a build and is not there."""

import functools
from types import SimpleNamespace

import pytest

from deeph_zero.integrals.ahead import IntegralsAhead, Order
from deeph_zero.prepared.molecule import same_data
from deeph_zero.train.batches import ResumableBatches
from deeph_zero.train.budget import Budget, Lessons
from deeph_zero.train.store.cache import HeavyStore
from deeph_zero.train.store.prefetch import LookAhead

from ..hydrogen import METHOD, problem  # noqa: TID252  (tests are no package)


class Orders(IntegralsAhead):
    """Stands for the workers."""

    def plan(self, wanted):
        self.wanted = [key for key, _ in wanted]

    def take(self, key, order):
        del key, order  # no process is started: the store computes them itself


class Module:
    """Stands for the training module."""

    stream = None
    progress = 0.0
    remaining = 5.0

    def __init__(self, problems, losses):
        self.lessons = Lessons(problems, Budget(ratio=0.1))
        self.mix = self
        self._losses = losses

    def active(self, _):
        return dict.fromkeys(self._losses, 1.0)


@pytest.fixture(scope="module")
def started():
    """Six geometries, all but the last with a taught teacher."""
    problems = [problem(k) for k in range(6)]
    for one in problems[:5]:
        one.teacher.advance()
    return problems


@pytest.fixture
def stored(started):
    """In a store without room for any of them."""
    store = HeavyStore(1e-6, ahead=Orders(1))
    return store, [
        store.adopt(
            p,
            lambda portable, p=p: same_data(p.molecule, METHOD, p.fock0, portable=portable),
            order=functools.partial(Order, molecule=p.molecule, method=METHOD),
        )
        for p in started
    ]


def in_order(size=3):
    return ResumableBatches(list(range(6)), size, seed=0, shuffle=False)


@pytest.mark.parametrize("losses", [["fixed-point"], ["supervised"], ["energy"]])
def test_only_what_costs_a_build_is_ordered(stored, losses):
    store, problems = stored
    module = Module(problems, losses)
    module.lessons.errors = [0.0, 1e3, 0.0, 0.0, 0.0, 0.0]  # the second needs no better target
    module.lessons._taught = {2}
    module.lessons.dropped = {3: "failed"}
    store.get(4)
    LookAhead(in_order(), module, store)([0, 1, 2])
    expected = {"fixed-point": [0, 5], "supervised": [], "energy": [0, 1, 2, 3, 5]}[losses[0]]
    assert store.ahead.wanted == [("again", k) for k in expected]


def test_the_present_batch_comes_first_and_nothing_twice(stored):
    store, problems = stored
    store.get(5)  # the last one adopted is kept, whatever the room
    LookAhead(in_order(2), Module(problems, ["energy"]), store)([3, 2])
    assert store.ahead.wanted == [("again", k) for k in (3, 2, 0, 1, 4)]


def test_copies_that_leave_are_ordered_as_those_that_come(stored):
    store, problems = stored
    store.get(0)
    module = Module(problems, ["energy"])
    module.stream = SimpleNamespace(
        is_due=lambda k, remaining: k in (1, 4) and remaining == 5.0,
        order=lambda k: ((k, "next"), lambda: None),
    )
    LookAhead(in_order(), module, store)([0, 1, 2])
    assert store.ahead.wanted == [("again", k) for k in (2, 3, 5)] + [(1, "next"), (4, "next")]


def test_without_workers_nothing_is_ordered(stored):
    store, problems = stored
    ahead, store.ahead = store.ahead, None
    LookAhead(in_order(), Module(problems, ["energy"]), store)([0, 1, 2])
    assert not hasattr(ahead, "wanted")
