"""Integrals that workers make ahead of need: the bits of this process's own, none made twice."""

import os
import signal
from concurrent.futures import Future
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from deeph_zero.host.reporting import SilentReporter
from deeph_zero.integrals import ahead as ahead_module
from deeph_zero.integrals.ahead import IntegralsAhead
from deeph_zero.jobs import chunks as chunks_module
from deeph_zero.jobs import label as label_module
from deeph_zero.jobs.chunks import Chunks
from deeph_zero.jobs.label import _LabelJob, run_label
from deeph_zero.jobs.predict import _PredictJob
from deeph_zero.jobs.tasks import Tasks
from deeph_zero.jobs.workers import outcomes
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.ks.parallel import room as room_module
from deeph_zero.ks.parallel.room import STACK_SHARE, STACKED
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import LabelConfig, PredictConfig

from .test_labels import hydrogens
from .test_predictions import model

pytestmark = pytest.mark.gpu
SETTINGS = {
    "runtime": {"device": "cuda", "threads": 1},
    "method": {"basis": "sto-3g", "grid_level": 0},
}
JOB = _LabelJob(LabelConfig.parse(SETTINGS))


@pytest.fixture
def made(monkeypatch):
    """Names of integrals in the order in which they were made; workers are this process."""
    names, real = [], ahead_module.computed

    def computed(order):
        names.append(order.molecule.frame)
        return real(order)

    def at_once(_, order):
        future = Future()
        try:
            future.set_result(computed(order))
        except Exception as error:
            future.set_exception(error)
        return future

    monkeypatch.setattr(chunks_module, "computed", computed)
    monkeypatch.setattr(IntegralsAhead, "_submitted", at_once)
    monkeypatch.setattr(label_module, "TOGETHER", 4)
    return names


def run(job, structures, ahead):
    tasks = Tasks(enumerate(structures))
    return list(outcomes(job, tasks, workers=1, threads=1, ahead=ahead))


def assert_same(found, wanted, seen):
    """To the bit; a real card may add up in another order from time to time."""
    if seen is not None:
        assert found == wanted
    assert len(found) == len(wanted) > 0
    assert None not in found


def test_labels_are_the_same_to_the_bit(made, seen):
    alone = run(JOB, hydrogens(6), 0)
    assert made == [0, 1, 2, 3, 4, 5]
    made.clear()
    found = run(JOB, hydrogens(6), 2)
    assert made == [0, 1, 2, 3, 4, 5]
    assert_same([one.data for one in found], [one.data for one in alone], seen)


def test_where_memory_runs_out_integrals_are_not_made_again(made, monkeypatch):
    def full(batch, *more, **settings):
        tried.append(len(batch))
        if len(batch) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return real(batch, *more, **settings)

    tried, real = [], KohnShamBatch.scf
    monkeypatch.setattr(KohnShamBatch, "scf", full)
    found = run(JOB, hydrogens(5), 2)
    assert [one.error for one in found] == [None] * 5
    assert (tried, made) == ([4, 2, 2], [0, 1, 2, 3, 4])


@pytest.mark.usefixtures("made")
def test_what_a_worker_refuses_fails_alone_as_ever():
    structures = hydrogens(5)
    lawrencium = {"numbers": np.array([103]), "coords": np.zeros((1, 3)), "spin": 1}
    structures[2] = Molecule(**lawrencium, file="lr.xyz", frame=2)
    found = run(JOB, structures, 2)
    assert [one.task[0] for one in found] == [0, 1, 2, 3, 4]
    assert [one.error is None for one in found] == [True, True, False, True, True]
    (alone,) = run(JOB, structures[2:3], 0)
    assert found[2].error == alone.error
    assert (alone.error["file"], alone.error["frame"]) == ("lr.xyz", 2)
    assert "sto-3g" in alone.error["error"]


@pytest.mark.parametrize(
    ("inputs", "certificate"), [("physics", False), ("geometry", True), ("geometry", False)]
)
def test_predictions_take_them_where_they_need_any(made, seen, caplog, inputs, certificate):
    stated = {"runtime": SETTINGS["runtime"], "coupled": False, "workers": 1}
    config = PredictConfig.parse(stated | {"certificate": certificate})
    count = 3 if inputs == "physics" or certificate else 0
    job = _PredictJob("", config, Path("p.h5"), numbered=True, model=model("cuda", inputs))
    alone = run(job, hydrogens(3), 0)
    made.clear()
    found = run(job, hydrogens(3), 1)
    assert len(made) == count
    assert ("workers=1: no integrals are needed" in caplog.text) == (count == 0)
    assert_same([one.data for one in found], [one.data for one in alone], seen)


@pytest.mark.parametrize(("free", "sizes"), [(10**9, [4, 2]), (None, [3, 3]), (1, [1] * 6)])
def test_a_call_takes_what_the_card_has_room_for(made, monkeypatch, free, sizes):
    """A large card, one with room for the stack of three, one with hardly any."""
    compute = JOB.start(1)
    if free is None:
        own = ahead_module.computed(compute.order(hydrogens(1)[0])).two.memory_bytes
        free = int(STACKED * 3 * own / STACK_SHARE)
    monkeypatch.setattr(room_module, "free_bytes", lambda _: free)
    drawn = []
    with Chunks(Tasks(enumerate(hydrogens(6))), compute, workers=1, threads=1) as chunks:
        assert chunks._ahead._uploads is not None
        while some := chunks.draw():
            drawn.append(len(some))
            assert all(one.portable.one.ovlp.device.type == "cuda" for one in some)
    assert drawn == sizes
    assert made[-6:] == [0, 1, 2, 3, 4, 5]


class Reporter(SilentReporter):
    """Does something when a structure is done."""

    def __init__(self, action):
        self.warnings, self.action = [], action

    def warning(self, text):
        self.warnings.append(text)

    def task(self, description, total=None):
        del description, total
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def skip(self, n):
        pass

    def advance(self, n=1, **fields):
        del n, fields
        action, self.action = self.action, None
        if action is not None:
            action()


def label(out, action=None, *, resume=False, **settings):
    config = LabelConfig.parse(SETTINGS | settings)
    more = {"reporter": Reporter(action), "command": "label", "resume": resume}
    summary = run_label(config, hydrogens(5), [], out, **more)
    with h5py.File(out) as file:
        values = {k: {n: v[()].tobytes() for n, v in file[k].items()} for k in file}
    return values, summary["structures"]


@pytest.fixture
def whole(tmp_path, monkeypatch):
    monkeypatch.setattr(label_module, "TOGETHER", 2)
    return label(tmp_path / "whole.h5")


def test_ctrl_c_loses_nothing_and_does_nothing_twice(made, seen, tmp_path, whole):
    made.clear()
    out = tmp_path / "o.h5"
    with pytest.raises(KeyboardInterrupt):
        label(out, lambda: os.kill(os.getpid(), signal.SIGINT), workers=1)
    with h5py.File(out) as file:
        assert len(file) == 2, "the chunk that was at work; that on order was not begun"
    assert made == [0, 1, 2, 3]
    made.clear()
    assert_same(label(out, workers=1, resume=True), whole, seen)
    assert made == [2, 3, 4]


def test_a_worker_that_dies_costs_nothing(seen, tmp_path, whole, monkeypatch, caplog):
    """Of real processes."""

    def kill():
        (process,) = hired[0]._pool._processes.values()
        os.kill(process.pid, signal.SIGKILL)
        process.join()

    hired, real = [], chunks_module.IntegralsAhead
    monkeypatch.setattr(
        chunks_module, "IntegralsAhead", lambda *a: hired.append(real(*a)) or hired[0]
    )
    assert_same(label(tmp_path / "o.h5", kill, workers=1), whole, seen)
    assert "a worker process for integrals ended" in caplog.text
