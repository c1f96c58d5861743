"""What one call of ``fit`` carries around."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deeph_zero.ks.counts import Builds
from deeph_zero.molecule import Molecule
from deeph_zero.testing import Listener
from deeph_zero.train import run as run_module
from deeph_zero.train.resume import limits, taken_over
from deeph_zero.train.run import Earlier, Geometries, Roles, Run
from deeph_zero.train.taught import Absent

from . import hydrogen as h

H = Molecule(numbers=np.array([1]), coords=np.zeros((1, 3)), spin=1)


class Ahead:
    limit = 2

    def __init__(self):
        self.wanted = None

    def plan(self, orders):
        self.wanted = orders


def test_geometries_of_other_processes_are_not_present():
    found = Geometries(problems=[Absent(H), Absent(H)])
    assert (found.present, found.builds) == ([], [])


def test_workers_are_told_what_comes_next():
    ahead = Ahead()
    found = Geometries()
    found.look_ahead([0, 1], 0)  # without a store there is nobody to tell
    found.store = SimpleNamespace(ahead=ahead, missing=lambda keys: [("again", k) for k in keys])
    found.look_ahead([3, None, 4, 5], 1)
    assert ahead.wanted == [("again", 4)]


def test_workers_send_to_the_device_of_the_run(monkeypatch):
    given = []
    monkeypatch.setattr(run_module, "IntegralsAhead", lambda *those: given.append(those))
    monkeypatch.setattr(run_module, "set_threads", given.append)
    runtime = SimpleNamespace(threads=3, device=torch.device("cuda"))
    Run.hire_workers(SimpleNamespace(config=SimpleNamespace(workers=2), team=None, runtime=runtime))
    assert given == [1, (2, runtime.device)]


def begun(out, **runtime):
    config = h.config(runtime=runtime)
    given: list = []
    run = Run.begun(config, given, reporter=Listener(), out=out, molecules=[h.hydrogen()])
    return run, given


def test_a_run_begins_with_its_command(tmp_path):
    run, given = begun(tmp_path, started=12.5, seed=5)
    assert run.started == 12.5
    assert (run.runtime.seed, run.runtime.threads) == (5, 1)
    assert run.results.failed is given
    later, _ = begun(tmp_path)
    assert later.started > 12.5
    assert later.leads


def test_only_what_is_left_out_on_request_is_in_the_list_that_was_given(tmp_path):
    run, given = begun(tmp_path)
    run.results.failed.append({"frame": 0})
    run.results.fail({"frame": 1})
    assert given == [{"frame": 0}]
    assert run.results.failed == [{"frame": 0}, {"frame": 1}]


def test_without_workers_or_a_store_there_is_nothing_to_give_back(tmp_path):
    run, _ = begun(tmp_path)
    assert run.hire_workers() is None
    run.dismiss_workers()
    run.release()
    run.geometries.look_ahead([0], 0)
    assert run.geometries.builds == run.geometries.present == []


def test_an_earlier_attempt_is_taken_over_or_finished(tmp_path):
    run, _ = begun(tmp_path)
    entries = [{"energy": -1.0}]
    kept = {"fock_builds": 7, "coarse_builds": None, "structures": entries, "stopped_by": "epochs"}
    (tmp_path / "summary.json").write_text(json.dumps(kept | {"limits": limits(run.config)}))
    assert taken_over(run, trained=False) is None
    assert run.earlier == Earlier(builds=Builds(7, 0))
    assert taken_over(run, trained=True) is None
    assert run.earlier.entries == entries
    for name in ("model.safetensors", "predictions.h5"):
        (tmp_path / name).touch()
    assert taken_over(run, trained=True)["structures"] == entries
    assert run.reporter.messages == [f"{tmp_path} is finished: nothing left to do"]


@pytest.mark.parametrize(
    ("k", "calibrates", "validates", "entry"),
    [
        (0, False, False, {}),
        (1, True, False, {"calibration": True}),
        (2, False, False, {"validation": True}),
        (2, True, False, {"validation": True}),
        (3, False, True, {"validation": True}),
    ],
)
def test_an_entry_says_what_its_structure_is_for(k, calibrates, validates, entry):
    roles = Roles(held_out=(1,), measuring=(2,))
    assert roles.entry(k, calibrates=calibrates, validates=validates) == entry
