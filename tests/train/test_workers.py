"""Integrals ahead of need in training: the same weights, and the right ones at the right time."""

import functools
import json

import pytest
import torch
from safetensors.torch import load_file

from deeph_zero.errors import InputError
from deeph_zero.integrals.ahead import IntegralsAhead, Order
from deeph_zero.integrals.mole import build_mole
from deeph_zero.method import Method
from deeph_zero.prepared.molecule import basis_layout, same_data
from deeph_zero.settings.config import FitConfig
from deeph_zero.testing import Listener, distorted_waters
from deeph_zero.train.batches import ResumableBatches
from deeph_zero.train.budget import Budget, Lessons
from deeph_zero.train.fit import run_fit
from deeph_zero.train.store.cache import HeavyStore
from deeph_zero.train.store.prefetch import LookAhead
from deeph_zero.train.taught import make_problem

SMALL = {"memory_mb": 0.6}
CASES = {
    "again": ({}, SMALL),
    "energy": ({"loss": "energy"}, SMALL),
    "stream": ({"samples": 9, "stream": True, "stream_visits": 2}, {}),
    "validation": ({"data": {"validation": 0.2}}, SMALL),
    "rounded": ({"jk_dtype": "float32"}, {"memory_mb": 0.4}),
}
"""What both runs have, and what the one with more workers has besides."""


def fit(out, **values):
    method = {"basis": "sto-3g", "grid_level": 0}
    runtime = {"threads": 1, "device": "cpu"}
    model = {"size": "tiny"}
    given = {"method": method, "runtime": runtime, "model": model, "epochs": 4, "calibration": 0}
    config = FitConfig.parse(given | values)
    molecules = distorted_waters(1 if values.get("stream") else 10)
    out.mkdir()
    return run_fit(
        config, molecules, out=out, failed=[], resume=False, reporter=Listener(), command="test"
    )


@pytest.mark.parametrize("name", CASES)
def test_neither_workers_nor_memory_change_a_bit(name, tmp_path):
    both, more = CASES[name]
    found = [fit(tmp_path / "1", workers=1, **both), fit(tmp_path / "2", workers=2, **both, **more)]
    one, two = (load_file(tmp_path / n / "model.safetensors") for n in ("1", "2"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)
    entries = [entry["energy"] for entry in found[0]["structures"]]
    assert entries == [entry["energy"] for entry in found[1]["structures"]]
    assert ("integrals" in found[1]) == bool(more)
    assert "integrals" not in found[0]


def test_libraries_of_several_threads_round_differently_at_most(tmp_path):
    alone, helped = (fit(tmp_path / f"{n}", workers=n, **SMALL) for n in (0, 1))
    assert helped["integrals"] == alone["integrals"]
    assert helped["integrals"]["computed_again"] > 10
    assert helped["fock_builds"] == alone["fock_builds"]
    for entry, other in zip(helped["structures"], alone["structures"], strict=True):
        assert entry["energy"] == pytest.approx(other["energy"], abs=1e-6)


def test_not_with_several_processes():
    with pytest.raises(InputError, match="--workers"):
        FitConfig.parse({"workers": 1, "devices": 2})


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


class Orders(IntegralsAhead):
    """Stands for the workers."""

    def plan(self, wanted):
        self.wanted = [key for key, _ in wanted]


class Module:
    """Stands for the training module."""

    stream = None
    progress = 0.0

    def __init__(self, problems, losses):
        self.lessons = Lessons(problems, Budget(ratio=0.1))
        self.mix = self
        self._losses = losses

    def active(self, _):
        return dict.fromkeys(self._losses, 1.0)


@pytest.mark.parametrize("losses", [["fixed-point"], ["supervised"], ["energy"]])
def test_only_what_costs_a_build_is_ordered(losses):
    method, waters = Method(basis="sto-3g", grid_level=0), distorted_waters(6)
    layout = basis_layout([build_mole(m, basis="sto-3g") for m in waters])
    problems = [make_problem(m, method, layout, cutoff=14.0) for m in waters]
    store = HeavyStore(1e-6, ahead=Orders(1))
    for k, p in enumerate(problems):
        problems[k] = store.adopt(
            p,
            lambda portable, p=p: same_data(p.molecule, method, p.fock0, portable=portable),
            order=functools.partial(Order, molecule=p.molecule, method=method),
        )
    module = Module(problems, losses)
    module.lessons.errors = [0.0, 1e3, 0.0, 0.0, 0.0, 0.0]  # the second needs no better target
    module.lessons._taught = {2}
    module.lessons.dropped = {3: "failed"}
    for problem in problems[:5]:
        problem.teacher.advance()
    store.get(4)
    look = LookAhead(ResumableBatches(list(range(6)), 3, seed=0, shuffle=False), module, store)
    look([0, 1, 2])
    expected = {"fixed-point": [0, 5], "supervised": [], "energy": [0, 1, 2, 3, 5]}[losses[0]]
    assert store.ahead.wanted == [("again", k) for k in expected]


def test_streams_order_the_next_copy(tmp_path):
    found = fit(tmp_path / "run", **CASES["stream"][0], workers=1, epochs=8)
    assert found["geometries_replaced"] > 9
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["fock_builds"] > 9
