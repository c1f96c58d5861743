"""Gradient steps on crystals: never worse than the closed form, as many as were asked for."""

import math

import pytest
import torch

from deeph_zero.errors import ComputationError
from deeph_zero.train import crystal_steps
from deeph_zero.train.crystal_steps import RIDGES, Steps, train_crystals
from deeph_zero.train.crystals import Lesson, fit_crystals, teach

from .hydrogen_crystal import network, ready


@pytest.fixture(scope="module")
def lessons():
    """Three crystals, solved at Γ."""
    return [Lesson.of(teach(ready(k))) for k in range(3)]


def loss_at(net, lessons):
    with torch.no_grad():
        values = [float(one.loss(net(one.inputs)[0])) for one in lessons]
    return sum(values) / len(values)


def train(lessons, checks=(), net=None, stop=lambda: False, **steps):
    rows = []
    net = network() if net is None else net
    given = {"epochs": 4, "learning_rate": 1e-4} | steps
    whole = train_crystals(
        net, lessons, list(checks), Steps(**given), seed=3, note=rows.append, stop=stop
    )
    return net, rows, whole


def test_steps_end_no_worse_than_the_closed_form(lessons):
    closed = network()
    fit_crystals(closed, lessons)
    net, rows, whole = train(lessons)
    assert whole
    assert loss_at(net, lessons) <= loss_at(closed, lessons) * (1 + 1e-9)
    assert rows[0]["loss"] == pytest.approx(loss_at(closed, lessons), rel=1e-6)
    assert (rows[0]["step"], rows[0]["epoch"]) == (0, 0)
    assert [row["epoch"] for row in rows[1:]] == [1, 2, 3, 4]
    assert [row["step"] for row in rows[1:]] == [3, 6, 9, 12]
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert "val_loss" in rows[-1], "the last pass is measured"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ({"epochs": 2}, [3, 6]),
        ({"epochs": 2, "batch_size": 2}, [2, 4]),
        ({"epochs": 9, "most": 5}, [3, 5]),
        ({"epochs": 9, "most": 10}, [3, 6, 9, 10]),
        ({"epochs": 0}, []),
    ],
    ids=str,
)
def test_as_many_steps_as_were_asked_for(lessons, steps, expected):
    _, rows, whole = train(lessons, **steps)
    assert whole
    assert [row["step"] for row in rows[1:]] == expected


def test_the_seed_says_the_order(lessons):
    weights = []
    for _ in range(2):
        net, _, _ = train(lessons, epochs=1)
        weights.append(torch.cat([p.flatten() for p in net.parameters()]))
    assert torch.equal(*weights)


def test_crystals_that_are_kept_out_choose_the_weights(lessons):
    """Steps that make them worse are undone."""
    net, rows, _ = train(lessons[:2], lessons[2:], learning_rate=0.3)
    best = min(row["val_loss"] for row in rows if "val_loss" in row)
    assert loss_at(net, lessons[2:]) <= best * (1 + 1e-9)


def test_the_smoothest_readout_that_serves_is_taken(lessons, monkeypatch):
    """All ridges are tried from the same weights; among those near the best the largest stays."""
    tried = []

    def fit(net, _, *, ridge):
        weights = next(net.parameters()).data
        tried.append((ridge, float(weights.view(-1)[0])))
        weights.fill_(ridge)

    monkeypatch.setattr(crystal_steps, "fit_crystals", fit)
    values = iter([4.0, 1.0, 3.9, 4.1, 9.0])
    monkeypatch.setattr(crystal_steps, "_mean_loss", lambda *_: next(values))
    net = network()
    begin = float(next(net.parameters()).detach().view(-1)[0])
    crystal_steps._closed_form(net, lessons[:1], lessons[1:])
    assert tried == [(ridge, begin) for ridge in RIDGES]
    assert float(next(net.parameters()).detach().max()) == pytest.approx(RIDGES[2])


def test_an_end_keeps_the_best_so_far(lessons):
    asked = []

    def stop():
        asked.append(True)
        return len(asked) > 4

    closed = network()
    fit_crystals(closed, lessons)
    net, rows, whole = train(lessons, stop=stop, learning_rate=0.5)
    assert not whole
    assert [row["step"] for row in rows] == [0, 3]
    assert loss_at(net, lessons) <= loss_at(closed, lessons) * (1 + 1e-9)


def test_a_loss_that_is_not_finite_is_an_error(lessons, monkeypatch):
    monkeypatch.setattr(crystal_steps, "fit_crystals", lambda *_, **__: None)
    net = network()
    with torch.no_grad():
        next(net.parameters()).fill_(math.nan)
    with pytest.raises(ComputationError, match=r"lower training\.learning_rate"):
        train(lessons, net=net)
