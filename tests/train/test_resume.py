"""Which earlier run is gone on with, which is another one, and what its files have to be."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.files import temporary_beside
from deeph_zero.settings.config_file import CONFIG_TOML
from deeph_zero.testing import Listener
from deeph_zero.train import resume
from deeph_zero.train.lightning_io import KEEP, SafeCheckpointIO
from deeph_zero.train.resume import (
    CONFIG_FILE,
    SUMMARY_FILE,
    compare_settings,
    earlier_summary,
    fingerprint,
    forget_settings,
    is_done,
    limits,
    resume_point,
    save_settings,
    taken_over,
)

from .hydrogen import hydrogen, run


def begun(out, molecules=None, **values):
    save_settings(run(out, molecules, **values))


def test_the_run_that_began_is_gone_on_with(tmp_path):
    begun(tmp_path, epochs=3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [CONFIG_FILE, CONFIG_TOML]
    compare_settings(run(tmp_path, epochs=3))


def test_what_a_killed_attempt_left_half_written_goes(tmp_path):
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as ended:
        pass
    own = temporary_beside(tmp_path / "predictions.h5")
    left = own.with_name(own.name.replace(f".{os.getpid()}-", f".{ended.pid}-"))
    for path in (own, left):
        path.write_text("half")
    begun(tmp_path)
    assert own.exists(), "a living process writes it"
    assert not left.exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"epochs": 9},
        {"steps": 9},
        {"conv_tol_grad": 1e-9},
        {"memory_mb": 5.0},
        {"disk_mb": 5.0},
        {"skip_bad": True},
        {"runtime": {"max_time": 5.0}},
        {"runtime": {"verbose": 2}},
    ],
    ids=str,
)
def test_a_longer_run_with_other_means_is_the_same(tmp_path, changed):
    begun(tmp_path)
    assert compare_settings(run(tmp_path, **changed)) == ""


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({"runtime": {"threads": 2}}, "threads"),
        ({"runtime": {"threads": None}, "workers": 1}, "threads, workers"),
        ({"runtime": {"device": "auto"}}, "device"),
    ],
    ids=str,
)
def test_means_that_round_otherwise_are_said(tmp_path, changed, names):
    begun(tmp_path)
    one = run(tmp_path, **changed)
    note = f"the run began with another {names}; results may differ in the last digits"
    assert compare_settings(one) == note
    assert taken_over(one, trained=False, note=note) is None
    assert isinstance(one.reporter, Listener)
    assert one.reporter.warnings == [note]


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"method": {"xc": "pbe"}}, "xc (lda,vwn there, pbe here);"),
        ({"method": {"basis": "sto-3g"}}, "basis ("),
        ({"runtime": {"seed": 4}}, "seed (0 there, 4 here);"),
        ({"loss": "energy"}, "loss"),
        ({"model": {"cutoff": 9.0}}, "cutoff"),
        ({"samples": 2}, "samples (0 there, 2 here)"),
        ({"data": {"validation": 0.4}}, "validation"),
        ({"runtime": {"threads": 2, "seed": 4}}, "seed (0 there, 4 here);"),
        ({"molecules": [hydrogen(1)]}, "structures"),
        ({"molecules": [hydrogen(), hydrogen(1)]}, "structures"),
        ({"molecules": [hydrogen(charge=1, spin=1)]}, "structures"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_another_run_is_named(tmp_path, changed, name):
    begun(tmp_path)
    with pytest.raises(InputError, match=rf"got another (.*, )?{re.escape(name)}") as caught:
        compare_settings(run(tmp_path, **changed))
    assert len(str(caught.value).splitlines()) == 1
    assert "overwrite=True" in str(caught.value)


def test_runs_of_a_version_that_did_not_note_the_fraction_are_gone_on_with(tmp_path):
    begun(tmp_path)
    kept = json.loads((tmp_path / CONFIG_FILE).read_text())
    del kept["config"]["validation"]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(kept))
    assert compare_settings(run(tmp_path, data={"validation": 0.4})) == ""


def test_where_the_structures_lie_does_not_matter(tmp_path):
    begun(tmp_path)
    compare_settings(run(tmp_path, [hydrogen(file="moved/h2.xyz", frame=7)]))


def test_a_run_killed_at_once_has_nothing_to_disagree_with(tmp_path):
    compare_settings(run(tmp_path))
    assert earlier_summary(run(tmp_path)) == {}
    assert resume_point(run(tmp_path)) is None


DAMAGED = [
    ("{ nonsense", "cannot use it"),
    ("[1]", "it is another JSON document"),
    ('{"config": 3, "frames": []}', "it is another JSON document"),
    ('{"config": {}, "frames": [[1, 2]]}', "it is another JSON document"),
    ('{"config": {}}', "it is another JSON document"),
]


@pytest.mark.parametrize(("text", "words"), DAMAGED)
def test_damaged_settings_are_one_line(tmp_path, text, words):
    (tmp_path / CONFIG_FILE).write_text(text)
    with pytest.raises(InputError, match=rf"expected the settings of a run, .*{words}") as caught:
        compare_settings(run(tmp_path))
    assert str(caught.value).startswith(str(tmp_path / CONFIG_FILE))
    assert "overwrite=True" in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [[], {"fock_builds": "many"}, {"fock_builds": 1.5}, {"structures": {}}, {"structures": [3]}],
    ids=str,
)
def test_a_damaged_summary_is_one_line(tmp_path, document):
    (tmp_path / SUMMARY_FILE).write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"expected the summary of a run, .*another JSON document"):
        earlier_summary(run(tmp_path))


def test_a_summary_is_what_was_written(tmp_path):
    kept = {"fock_builds": None, "structures": [{"energy": -1.0}], "stopped_by": "epochs"}
    (tmp_path / SUMMARY_FILE).write_text(json.dumps(kept))
    assert earlier_summary(run(tmp_path)) == kept


def test_fingerprints_are_of_what_is_solved():
    one = hydrogen()
    same = fingerprint(one)
    assert len(same) == 16
    assert fingerprint(dataclasses.replace(one, file="x", frame=9)) == same
    assert fingerprint(dataclasses.replace(one, coords=one.coords + 1e-9)) == same
    others = [
        {"coords": one.coords + 1e-5},
        {"charge": 1},
        {"spin": 2},
        {"numbers": np.array([1, 2])},
        {"lattice": np.eye(3)},
    ]
    crystal = dataclasses.replace(one, lattice=np.eye(3), pbc=(True, True, True))
    of_cells = [{"pbc": (True, True, False)}, {"moments": (1.0, 0.0)}, {"lattice": 2 * np.eye(3)}]
    found = [fingerprint(dataclasses.replace(one, **o)) for o in others]
    found += [fingerprint(dataclasses.replace(crystal, **o)) for o in of_cells]
    assert len({*found, same, fingerprint(crystal)}) == len(found) + 2


FINISHED = {"stopped_by": "epochs", "structures": [{"energy": -1.0}]}


@pytest.mark.parametrize(
    ("change", "done"),
    [
        ({}, True),
        ({"stopped_by": "converged"}, True),
        ({"stopped_by": "max_time"}, False),
        ({"stopped_by": None}, False),
        ({"structures": []}, False),
        ({"structures": [{"energy": -1.0}, {"energy": None}]}, False),
        ({"limits": {"epochs": 5}}, False),
    ],
    ids=str,
)
def test_when_nothing_is_left_to_do(tmp_path, change, done):
    one = run(tmp_path, epochs=3)
    found = FINISHED | {"limits": limits(one.config)} | change
    assert not is_done(one, found), "its files are not there"
    for name in ("model.safetensors", "predictions.h5"):
        (tmp_path / name).touch()
    assert is_done(one, found) is done
    assert not is_done(run(tmp_path, epochs=4), found)


def test_a_checkpoint_is_checked_before_anything_changes(tmp_path):
    folder = tmp_path / KEEP
    folder.mkdir(parents=True)
    assert resume_point(run(tmp_path)) is None, "killed in the first checkpoint"
    state = {
        "epoch": 1, "global_step": 2, "state_dict": {}, "loops": {}, "callbacks": {},
        "optimizer_states": [], "lr_schedulers": [], "fit": {},
    }  # fmt: skip
    SafeCheckpointIO().save_checkpoint(state, folder)
    assert resume_point(run(tmp_path)) == folder
    SafeCheckpointIO().save_checkpoint(state | {"epoch": "one"}, folder)
    with pytest.raises(InputError, match="a bad epoch"):
        resume_point(run(tmp_path))


@pytest.mark.parametrize("is_new", [True, False])
def test_a_disk_that_refuses_leaves_no_new_run(tmp_path, monkeypatch, is_new):
    if not is_new:
        begun(tmp_path)

    def full(path, _):
        raise ComputationError(f"cannot write {path}")

    with monkeypatch.context() as patch:
        patch.setattr(resume, "write_json", full)
        with pytest.raises(ComputationError, match="cannot write"):
            begun(tmp_path)
    assert (tmp_path / CONFIG_TOML).exists() is not is_new


def test_settings_are_forgotten_where_nothing_was_made(tmp_path):
    begun(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    forget_settings(tmp_path)
    forget_settings(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_what_is_written_for_people_has_the_resolved_device(tmp_path):
    begun(tmp_path, runtime={"device": "auto", "threads": None})
    text = (tmp_path / CONFIG_TOML).read_text()
    assert 'device = "auto"' not in text
    assert "threads = " in text
