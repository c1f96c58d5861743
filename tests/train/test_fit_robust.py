"""`deeph-zero fit` stopped in every way there is: the run is whole, and --resume ends the same."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from deeph_zero.model import load
from deeph_zero.train.lightning_io import KEEP, SafeCheckpointIO

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = ("--basis", "sto-3g", "--grid-level", "0", "--threads", "1", "--device", "cpu")
FRAMES = 10
KINDS = ("one", "many", "stream")
OFTEN = {"integrals": 1, "build": 1, "step": 5, "epoch": 2, "write": 4, "certificate": 1}
"""Calls that every run makes, which is killed at one of them."""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """One frame; ten frames, which is more than are checked for convergence every epoch."""
    folder = tmp_path_factory.mktemp("inputs")
    lines = (EXAMPLES / "water_frames.xyz").read_text().splitlines(keepends=True)
    (folder / "many.xyz").write_text("".join(lines[: 5 * FRAMES]))
    shutil.copy(EXAMPLES / "water.xyz", folder / "one.xyz")
    # a tolerance that is never reached, so that every run takes its four epochs
    limits = {
        "one": ("--tol", "1e-15", "--epochs", "3"),
        "many": ("--tol", "1e-15", "--epochs", "4"),
        "stream": ("--tol", "1e-15", "--epochs", "12", "--samples", "9", "--stream"),
    }
    shutil.copy(EXAMPLES / "water.xyz", folder / "stream.xyz")
    return {kind: (folder / f"{kind}.xyz", *TINY, *limits[kind]) for kind in KINDS}


@pytest.fixture(scope="module")
def whole(commands, inputs, tmp_path_factory):
    """The same runs, left alone."""
    runs = {kind: tmp_path_factory.mktemp("whole") / kind for kind in KINDS}
    for kind, run in runs.items():
        ended = commands.run("fit", *inputs[kind], "-o", run)
        assert ended.code == 1, ended.err
        assert summary(run)["stopped_by"] == "epochs"
    return runs


def summary(run):
    return json.loads((run / "summary.json").read_text())


def sound(run):
    """Every file of a run is absent or whole."""
    for path in run.glob("*.json"):
        json.loads(path.read_text())
    if (run / "model.json").exists():
        load(run)
    if (run / KEEP / "state.json").exists():
        SafeCheckpointIO().load_checkpoint(run / KEEP)
    if (run / "predictions.h5").exists():
        with h5py.File(run / "predictions.h5") as file:
            assert all("fock" in group for group in file.values())


def same(run, expected):
    """Bitwise the same model, the same results, and one row per epoch."""
    assert (run / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    assert summary(run)["structures"] == summary(expected)["structures"]
    assert summary(run)["stopped_by"] == summary(expected)["stopped_by"]
    epochs = [
        [line.split(",")[:2] for line in (folder / "metrics.csv").read_text().splitlines()]
        for folder in (run, expected)
    ]
    assert epochs[0] == epochs[1]
    with h5py.File(run / "predictions.h5") as ours, h5py.File(expected / "predictions.h5") as ref:
        assert list(ours) == list(ref)
        assert all((ours[k]["fock"][:] == ref[k]["fock"][:]).all() for k in ref)


def at(place, call, **action):
    return {"actions": [{"place": place, "call": call} | action]}


def one_line(ended):
    lines = ended.err.splitlines()
    assert lines, "expected an error line"
    assert lines[-1].startswith("error: ")
    assert not [line for line in lines if "Traceback" in line or "internal error" in line]
    return lines[-1]


ENDS = (
    (signal.SIGINT, 130, "interrupted"),
    (signal.SIGTERM, 143, "ended by SIGTERM"),
    (signal.SIGHUP, 129, "ended by SIGHUP"),
)


@pytest.mark.parametrize(
    "case",
    [
        ("one", "integrals", 1),
        ("one", "build", 1),
        ("one", "step", 3),
        ("one", "step", 10),  # the last one of an epoch
        ("one", "epoch", 2),
        ("many", "integrals", 4),
        ("many", "build", 7),
        ("one", "build", 3),  # a teacher's build within the first epoch
        ("many", "step", 3),
        ("many", "certificate", 4),
        ("stream", "step", 11),
    ],
)
def test_a_signal_keeps_a_run_that_resumes_to_the_same_end(commands, inputs, whole, tmp_path, case):
    kind, place, call = case
    run = tmp_path / "run"
    argv = ("fit", *inputs[kind], "-o", run)
    # each place with another signal, each signal in every phase
    signum, code, word = ENDS[(len(place) + call) % len(ENDS)]
    ended = commands.run(*argv, plan=at(place, call, signal=signum))
    assert ended.code == code, ended.err
    line = one_line(ended)
    again = " ".join(["deeph-zero", *map(str, argv), "--resume"])
    assert line == f"error: {word}; the run is kept, go on with: {again}"
    sound(run)
    kept = summary(run)
    assert kept["stopped_by"] == "interrupt"
    assert kept["converged"] is False
    assert kept["n_structures"] == (FRAMES if kind == "many" else 1)
    before_training = place == "integrals" or (place, call) in {("build", 1), ("build", 7)}
    assert (run / "model.safetensors").exists() is not before_training
    if place == "certificate":
        # the structure at hand was finished, both files say the same
        done = [e for e in kept["structures"] if e["energy"] is not None]
        with h5py.File(run / "predictions.h5") as file:
            assert len(file) == len(done) == call
    resumed = commands.run(*argv, "--resume")
    assert resumed.code == 1, resumed.err
    same(run, whole[kind])
    if kind == "stream":
        assert summary(run)["geometries_replaced"] == summary(whole[kind])["geometries_replaced"]
        assert summary(run)["geometries_replaced"] > 0
    assert summary(run)["fock_builds"] >= summary(whole[kind])["fock_builds"]


@pytest.mark.parametrize("case", [("one", 1, signal.SIGINT), ("many", FRAMES, signal.SIGTERM)])
def test_a_signal_in_the_last_certificate_changes_nothing(commands, inputs, whole, tmp_path, case):
    (kind, last, signum), run = case, tmp_path / "run"
    plan = at("certificate", last, signal=signum)
    ended = commands.run("fit", *inputs[kind], "-o", run, plan=plan)
    assert ended.code == 1  # as without
    assert "that was the last structure, nothing is left out" in ended.err
    assert summary(run)["stopped_by"] == "epochs"
    same(run, whole[kind])


def test_a_second_ctrl_c_in_the_certificates_keeps_those_before(commands, inputs, tmp_path):
    run = tmp_path / "run"
    plan = at("certificate", 3, signal=signal.SIGINT, times=2)
    plan["actions"].append({"place": "certificate", "call": 3, "signal": signal.SIGINT})
    ended = commands.run("fit", *inputs["many"], "-o", run, plan=plan)
    assert ended.code == 130
    one_line(ended)
    sound(run)
    done = [e["energy"] is not None for e in summary(run)["structures"]]
    assert done == [True] * 2 + [False] * (FRAMES - 2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_at_every_rename_leaves_a_run_that_resumes_to_the_same_end(
    commands, inputs, whole, tmp_path, kind
):
    run = tmp_path / "run"
    argv = ("fit", *inputs[kind], "-o", run)
    # with a checkpoint after every epoch: settings, model twice, checkpoint and model, ...
    for number, call in enumerate((1, 2, 3, 5, 6, 7)):
        plan = at("rename", call, signal=signal.SIGKILL) | {"checkpoint_every": 0.0}
        ended = commands.run(*argv, *(["--resume"] if number else []), plan=plan)
        assert ended.code == -signal.SIGKILL
        sound(run)
    assert commands.run(*argv, "--resume").code == 1
    same(run, whole[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_kills_at_random_places_resume_to_the_same_end(commands, inputs, whole, tmp_path, kind):
    run = tmp_path / "run"
    argv = ("fit", *inputs[kind], "-o", run)
    dice = random.Random(kind)
    kills = 0
    for _ in range(5):
        begun = (run / "config.json").exists()
        place = dice.choice(list(OFTEN))
        call = dice.randint(1, OFTEN[place])
        plan = at(place, call, signal=signal.SIGKILL) | {"checkpoint_every": 0.0}
        ended = commands.run(*argv, *(["--resume"] if begun else []), plan=plan)
        kills += ended.code == -signal.SIGKILL
        if run.exists():
            sound(run)
    assert kills
    assert commands.run(*argv, "--resume").code == 1
    same(run, whole[kind])


def test_a_finished_run_has_nothing_left_to_do(commands, inputs, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole["one"], run)
    # but for the list of the run's files, which every command keeps
    results = [p for p in run.iterdir() if p.is_file() and p.name != ".manifest.json"]
    before = {p.name: p.stat().st_mtime_ns for p in results}
    dies = {"signal": signal.SIGKILL, "call": 1}  # at the first thing that is computed
    plan = {"actions": [dies | {"place": name} for name in ("integrals", "build", "step")]}
    ended = commands.run("fit", *inputs["one"], "-o", run, "--resume", "--json", plan=plan)
    assert ended.code == 1  # as it ended the first time
    assert json.loads(ended.out) == summary(whole["one"])
    assert {p.name: p.stat().st_mtime_ns for p in results} == before


def test_a_converged_run_resumes_to_success_and_on_to_a_tighter_tolerance(commands, tmp_path):
    run = tmp_path / "run"
    argv = ("fit", EXAMPLES / "water.xyz", *TINY, "-o", run)
    assert commands.run(*argv, "--tol", "1e-3").code == 0
    first = summary(run)
    assert first["stopped_by"] == "converged"
    assert commands.run(*argv, "--tol", "1e-3", "--resume").code == 0
    assert summary(run) == first
    # Ctrl-C after convergence: nothing is trained again
    shutil.copy(run / "model.safetensors", tmp_path / "before")
    (run / "predictions.h5").unlink()
    assert commands.run(*argv, "--tol", "1e-3", "--resume").code == 0
    assert (run / "model.safetensors").read_bytes() == (tmp_path / "before").read_bytes()
    assert summary(run)["structures"] == first["structures"]
    assert commands.run(*argv, "--tol", "1e-6", "--resume").code == 0
    second = summary(run)
    assert second["structures"][0]["orbital_gradient_rms"] <= 1e-6
    assert second["fock_builds"] > first["fock_builds"]


def test_resume_refuses_what_is_not_this_run(commands, inputs, whole, tmp_path):
    empty, run, other = tmp_path / "empty", tmp_path / "run", tmp_path / "other.xyz"
    empty.mkdir()
    shutil.copytree(whole["one"], run)
    text = (EXAMPLES / "water.xyz").read_text()
    other.write_text(text.replace(text.split()[-1], "0.7000000"))
    file, *options = inputs["one"]
    before = summary(run)
    for argv, expected in [
        ((file, *options, "-o", empty, "--resume"), "expected a run at"),
        ((file, *options, "-o", tmp_path / "new", "--resume"), "expected a run at"),
        (
            (file, *options, "-o", run, "--resume", "--xc", "lda,vwn"),
            "another xc (pbe there, lda,vwn here)",
        ),
        ((file, *options, "-o", run, "--resume", "--seed", "4"), "another seed"),
        ((other, *options, "-o", run, "--resume"), "another structures"),
        ((file, *options, "-o", run, "--resume", "--overwrite"), "exclude each other"),
        ((file, *options, "-o", run), "use --resume or --overwrite"),
    ]:
        ended = commands.run("fit", *argv)
        assert ended.code == 2, argv
        assert expected in one_line(ended)
    assert list(empty.iterdir()) == []
    assert not (tmp_path / "new").exists()
    assert summary(run) == before


def test_overwrite_starts_from_nothing(commands, inputs, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole["many"], run)
    (run / "notes.txt").write_text("mine")
    assert commands.run("fit", *inputs["one"], "-o", run, "--overwrite").code == 1
    same(run, whole["one"])
    assert (run / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("place", ["integrals", "build"])
def test_time_up_before_training_trains_nothing_and_starts_over(
    commands, inputs, whole, tmp_path, place
):
    run = tmp_path / "run"
    argv = ("fit", *inputs["many"], "-o", run)
    limited = ("--max-time", "100", "--json")
    ended = commands.run(*argv, *limited, plan=at(place, 2, passes=101))
    assert ended.code == 1
    assert "stopped by max_time" in one_line(ended)
    assert "nothing was trained" in ended.err
    sound(run)
    names = {p.name for p in run.iterdir()}
    assert names == {".manifest.json", "config.json", "config.toml", "summary.json"}
    kept = summary(run)
    assert json.loads(ended.out) == kept
    assert kept["stopped_by"] == "max_time"
    assert [e["energy"] for e in kept["structures"]] == [None] * FRAMES
    assert kept["fock_builds"] >= 1
    assert commands.run(*argv, "--resume").code == 1
    same(run, whole["many"])
    assert (
        summary(run)["fock_builds"] == kept["fock_builds"] + summary(whole["many"])["fock_builds"]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_time_up_in_training_gives_a_complete_result(commands, inputs, whole, tmp_path, kind):
    run = tmp_path / "run"
    argv = ("fit", *inputs[kind], "-o", run)
    # what is kept back for the rest begins in a step
    ended = commands.run(*argv, "--max-time", "100", plan=at("step", 3, passes=99))
    assert ended.code == 1
    assert "stopped by max_time" in one_line(ended)
    sound(run)
    kept = summary(run)
    assert kept["stopped_by"] == "max_time"
    assert all(e["energy"] is not None for e in kept["structures"])
    assert commands.run(*argv, "--resume").code == 1
    same(run, whole[kind])


def test_a_full_disk_is_one_line_and_keeps_the_model(commands, inputs, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole["one"], run)
    model = (run / "model.safetensors").read_bytes()
    file, *options = inputs["one"]
    argv = ("fit", file, *options[:-1], "5", "-o", run, "--resume")
    # no file may grow beyond 20 kB: the operating system refuses in the middle of the model
    for plan in ({"file_size": 20_000}, at("write", 3, full_disk=True)):
        ended = commands.run(*argv, plan=plan)
        assert ended.code == 1
        assert one_line(ended).startswith("error: cannot write")
        assert one_line(ended).endswith("; free some space and run it again with --resume")
        sound(run)
        assert (run / "model.safetensors").read_bytes() == model
        assert not list(run.glob(".*.tmp")) + list(run.glob("*.new"))
    assert commands.run(*argv).code == 1
    assert summary(run)["stopped_by"] == "epochs"
    assert len((run / "metrics.csv").read_text().splitlines()) == 6


def test_a_full_disk_from_the_start_is_one_line(commands, inputs, tmp_path):
    run = tmp_path / "run"
    # the list of files does not fit; it does, the settings do not
    for size in (100, 1000):
        ended = commands.run("fit", *inputs["one"], "-o", run, plan={"file_size": size})
        assert ended.code == 1
        assert one_line(ended).startswith("error: cannot write")
        assert "--resume" not in one_line(ended)  # there is nothing to go on with
        assert not run.exists()


@pytest.mark.parametrize(("signum", "code", "word"), ENDS)
def test_the_command_itself_answers(tmp_path, signum, code, word):
    """A process started as a user's shell starts it, ended while it trains."""
    run = tmp_path / "run"
    argv = ("fit", str(EXAMPLES / "water.xyz"), *TINY, "--tol", "1e-15", "-o", str(run))
    process = subprocess.Popen(
        [sys.executable, "-m", "deeph_zero", *argv],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        # not inherited: a runner in the background may have it ignored
        preexec_fn=lambda: signal.signal(signum, signal.SIG_DFL),  # noqa: PLW1509
    )
    while not (run / "model.json").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signum)
    _, err = process.communicate()
    assert process.returncode == code
    assert err.splitlines()[-1].startswith(f"error: {word}; the run is kept, go on with: ")
    sound(run)
    assert summary(run)["stopped_by"] == "interrupt"
