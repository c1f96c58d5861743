"""Batches of a run that goes on in the middle of an epoch: what comes, and what is near."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeph_zero.train.batches import ResumableBatches


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 9), st.integers(0, 11))
@settings(deadline=None, max_examples=50)
def test_batches_continue_where_they_stopped(n, size, epoch, stop):
    def epoch_of(batches):
        batches.set_epoch(epoch)
        return list(batches)

    items = list(range(n))
    whole = epoch_of(ResumableBatches(items, size, seed=5))
    assert sorted(k for batch in whole for k in batch) == items
    assert len(whole) == len(ResumableBatches(items, size, seed=5))
    stop %= len(whole)
    first, second = (ResumableBatches(items, size, seed=5) for _ in range(2))
    first.set_epoch(epoch)
    iterator = iter(first)
    start = [next(iterator) for _ in range(stop)]
    second.load_state_dict(first.state_dict())
    assert start + epoch_of(second) == whole
    assert epoch_of(second) == whole


def test_batches_without_items_are_refused():
    with pytest.raises(ValueError, match=re.escape("must be positive, got 1 and 0")):
        ResumableBatches([], 1, seed=0)


def test_batches_near_the_present_one():
    batches = ResumableBatches(list(range(10)), 4, seed=2)
    whole = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        whole += list(batches)
    assert batches.around(3, 0) == whole[3:]
    batches = ResumableBatches(list(range(10)), 4, seed=2)
    assert batches.around(0, 3) == whole[:3]
    given = iter(batches)
    next(given)
    next(given)
    assert batches.around(1, 3) == whole[1:5]
    assert batches.around(5, 1) == whole[:3]
    assert ResumableBatches([1, 2, 3], 2, seed=0, shuffle=False).around(0, 3) == [
        [1, 2],
        [3],
        [1, 2],
    ]
