"""SIGTERM and SIGHUP in the middle of the shorter commands: their exit code, one line, whole files.

Training, prediction and labels have tests of their own, with processes.
"""

import importlib
import json
import os
import shutil
import signal

import h5py
import pytest

from deeph_zero.cli.main import entry_point

QUICK = ["--basis", "sto-3g", "--grid-level", "0", "--threads", "1"]
AGAIN = f"deeph-zero convert labels.db new.h5 {' '.join(QUICK)} --xc pbe --resume"
ENDS = {signal.SIGTERM: (143, "ended by SIGTERM"), signal.SIGHUP: (129, "ended by SIGHUP")}


@pytest.fixture(scope="module")
def made(tmp_path_factory, trained):
    """A model, three labels, and the same as a database."""
    place = tmp_path_factory.mktemp("made")
    shutil.copytree(trained, place / "model")
    water = "3\n\nO 0 0 {}\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n"
    (place / "frames.xyz").write_text("".join(water.format(z) for z in (0.1, 0.11, 0.12)))
    labels = str(place / "labels.h5")
    assert entry_point(["label", str(place / "frames.xyz"), *QUICK, "-o", labels, "-q"]) == 0
    assert entry_point(["convert", labels, str(place / "labels.db"), "-q"]) == 0
    return place


@pytest.fixture
def work(made, tmp_path, monkeypatch):
    """Working folder with only these in it."""
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(autouse=True)
def terminal():
    """Signals act as in a terminal, also where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


CASES = {
    "evaluate": (
        ["evaluate", "model", "labels.h5", "--no-scf", "-o", "e.json"],
        "deeph_zero.jobs.evaluate.compare",
        "; the structures done so far are kept in e.json",
        {"e.json"},
    ),
    "database to labels": (
        ["convert", "labels.db", "new.h5", *QUICK, "--xc", "pbe"],
        "deeph_zero.jobs.convert.understand",
        f"; the structures done so far are kept in new.h5; go on with: {AGAIN}",
        {"new.h5", "new.json", "new.h5.part"},
    ),
    "labels to database": (
        ["convert", "labels.h5", "new.db"],
        "deeph_zero.data.formats.qh9_source.QH9Sink.write",
        "",
        set(),
    ),
    "report": (
        ["report", "labels.h5", "-o", "new.html", "--molecules", "2"],
        "deeph_zero.report.page._close_part",
        "",
        set(),
    ),
}
"""Command, a function it calls for every structure, end of its line, files that are left."""


def kill_in(monkeypatch, name, signum, call=2):
    """Make the second call of a function end the process."""
    path, attribute = name.rsplit(".", 1)
    try:
        owner = importlib.import_module(path)
    except ModuleNotFoundError:
        module, kind = path.rsplit(".", 1)
        owner = getattr(importlib.import_module(module), kind)
    original, calls = getattr(owner, attribute), []

    def wrapped(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signum)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, attribute, wrapped)
    return calls


@pytest.mark.parametrize("signum", ENDS)
@pytest.mark.parametrize("name", CASES)
def test_a_command_that_is_ended_says_so_and_leaves_whole_files(
    name, signum, work, run, monkeypatch
):
    argv, place, end, left = CASES[name]
    before = {p.name for p in work.iterdir()}
    calls = kill_in(monkeypatch, place, signum)
    outcome = run(*argv)
    code, word = ENDS[signum]
    assert outcome.code == code
    assert outcome.err.splitlines()[-1] == f"error: {word}{end}"
    assert len(calls) == 2
    assert {p.name for p in work.iterdir()} - before == left
    for path in work.glob("*.json"):
        json.loads(path.read_text())
    if "new.h5" in left:
        with h5py.File("new.h5") as file:
            assert 0 < len(file) < 3
        monkeypatch.undo()
        monkeypatch.chdir(work)
        assert run(*argv, "--resume").code == 0
        with h5py.File("new.h5") as file:
            assert len(file) == 3


@pytest.mark.parametrize("name", CASES)
def test_under_nohup_a_command_goes_on(name, work, run, monkeypatch):
    argv, place, _, left = CASES[name]
    calls = kill_in(monkeypatch, place, signal.SIGHUP)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(*argv).code == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(calls) >= 2
    assert {name for name in left if not name.endswith(".part")} <= {p.name for p in work.iterdir()}
