"""The readout of crystals in the metric of the loss."""

import copy
import math

import pytest
import torch

from deeph_zero.train.crystal_readout import refine_readout, settle_readout
from deeph_zero.train.crystals import Lesson, fit_crystals, teach

from .hydrogen_crystal import network, ready

RIDGE = 1e-4


@pytest.fixture(scope="module")
def lessons():
    return [Lesson.of(teach(ready(k))) for k in range(4)]


def closed(lessons):
    net = network()
    fit_crystals(net, lessons, ridge=RIDGE)
    return net


@torch.no_grad()
def loss(net, lessons):
    return sum(float(c.loss(net(c.inputs)[0])) for c in lessons) / len(lessons)


def refined(net, lessons, measure=None, *, stop=False):
    net = copy.deepcopy(net)
    measure = measure or (lambda: loss(net, lessons))
    refine_readout(net, lessons, ridge=RIDGE, measure=measure, stop=lambda: stop)
    return net


def test_the_loss_falls_and_the_readout_alone_moves(lessons):
    """The network's own loss, which the readout's coordinates and features in advance hide."""
    before = closed(lessons[:3])
    after = refined(before, lessons[:3])
    assert loss(after, lessons[:3]) < 0.5 * loss(before, lessons[:3])
    known = dict(before.named_parameters())
    moved = {name for name, p in after.named_parameters() if not torch.equal(p, known[name])}
    assert moved
    assert all(name.startswith(("node_out.", "pair_out.")) for name in moved)


def test_the_best_at_crystals_kept_out_stays(lessons):
    before = closed(lessons[:3])
    found: list[float] = []

    def rising():
        found.append(float(len(found)))
        return found[-1]

    after = refined(before, lessons[:3], rising)
    assert len(found) > 1
    assert all(
        torch.equal(p, q) for p, q in zip(before.parameters(), after.parameters(), strict=True)
    )
    assert math.isclose(loss(after, lessons), loss(before, lessons))


def test_it_stops_when_told(lessons):
    before = closed(lessons[:3])
    after = refined(before, lessons[:3], stop=True)
    assert all(
        torch.equal(p, q) for p, q in zip(before.parameters(), after.parameters(), strict=True)
    )


def test_what_chose_is_learnt_from_in_the_end(lessons):
    """From the chosen weights on, whose features stay."""
    before = refined(closed(lessons[:3]), lessons[:3])
    after = copy.deepcopy(before)
    settle_readout(after, lessons, stop=lambda: False)
    assert loss(after, lessons) < 0.9 * loss(before, lessons)
    assert loss(after, lessons[3:]) < loss(before, lessons[3:])
    known = dict(before.named_parameters())
    moved = {name for name, p in after.named_parameters() if not torch.equal(p, known[name])}
    assert all(name.startswith(("node_out.", "pair_out.")) for name in moved)
