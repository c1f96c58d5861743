"""Structures that are left to do: seen ahead, taken one by one, stopped with nothing begun."""

import itertools

import numpy as np
import pytest

from deeph_zero.jobs.tasks import Tasks
from deeph_zero.molecule import Molecule

HYDROGEN = Molecule(numbers=np.array([1]), coords=np.zeros((1, 3)), spin=1)
TASKS = [(k, HYDROGEN) for k in range(5)]


def test_what_was_seen_is_taken_later():
    tasks = Tasks(iter(TASKS))
    assert tasks.coming(3) == TASKS[:3]
    assert next(tasks) == TASKS[0]
    assert tasks.first() == TASKS[1]
    assert tasks.coming(2) == TASKS[1:3]
    assert list(tasks) == TASKS[1:]
    assert (tasks.first(), tasks.coming(4), tasks.stopped_by) == (None, [], None)


def test_no_more_are_read_than_are_looked_at():
    read = []
    tasks = Tasks(read.append(k) or TASKS[k] for k in range(5))
    next(tasks)
    assert read == [0]
    tasks.coming(2)
    assert read == [0, 1, 2]


def test_who_stops_leaves_those_that_were_only_seen():
    reasons = iter([None, None, "max_time"])
    tasks = Tasks(iter(TASKS), lambda: next(reasons))
    tasks.coming(4)
    assert list(tasks) == TASKS[:2]
    assert tasks.stopped_by == "max_time"
    assert (next(tasks, None), tasks.first()) == (None, None), "for good"


def test_nothing_was_stopped_where_nothing_was_left():
    taken = []
    tasks = Tasks(itertools.islice(TASKS, 1), lambda: "interrupt" if taken else None)
    taken.append(next(tasks))
    assert next(tasks, None) is None
    assert tasks.stopped_by is None


def test_a_source_that_fails_does_so_behind_what_it_gave():
    def source():
        yield from TASKS[:2]
        raise OSError("the disk is gone")

    tasks = Tasks(source())
    assert tasks.coming(4) == TASKS[:2]
    assert [next(tasks), next(tasks)] == TASKS[:2]
    for look in (tasks.first, lambda: next(tasks)):
        with pytest.raises(OSError, match="gone"):
            look()
