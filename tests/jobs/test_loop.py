"""Many structures: processes, journals, and everything that can end a batch early."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from deeph_zero.errors import InputError, NoSpaceError
from deeph_zero.host import files, outputs
from deeph_zero.host.files import cannot_write
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.host.signals import FIRST, LAST
from deeph_zero.jobs import label, loop, workers
from deeph_zero.jobs.label import run_label
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import LabelConfig

SETTINGS = {
    "runtime": {"device": "cpu", "threads": 1},
    "method": {"basis": "sto-3g", "auxbasis": "weigend", "grid_level": 0},
}


class Reporter(SilentReporter):
    """Counts what is done, and does something at a count."""

    def __init__(self, at=None, action=None):
        self.warnings, self.done, self.at, self.action = [], 0, at, action

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
        self.done = n

    def advance(self, n=1, **fields):
        del fields
        self.done += n
        if self.at is not None and self.done >= self.at:
            self.at = None
            self.action()


def hydrogen(frame, z=1):
    coords = np.array([[0.1, 0, 0], [0.2, 0.3, 1.3 + 0.02 * frame]])
    return Molecule(numbers=np.array([z, 1]), coords=coords, file="h2.xyz", frame=frame)


def molecules(count=6):
    return [hydrogen(k) for k in range(count)]


def run(out, structures=None, *, reporter=None, resume=False, failed=(), **settings):
    config = LabelConfig.parse(SETTINGS | settings)
    return run_label(
        config,
        molecules() if structures is None else structures,
        list(failed),
        out,
        reporter=reporter or Reporter(),
        command="label",
        resume=resume,
    )


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def content(out):
    with h5py.File(out) as file:
        return {
            group: (dict(file[group].attrs), {k: v[()].tobytes() for k, v in file[group].items()})
            for group in file
        }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What one undisturbed process writes."""
    out = tmp_path_factory.mktemp("whole") / "o.h5"
    summary = run(out)
    assert sorted(p.name for p in out.parent.iterdir()) == ["o.h5", "o.json"]
    return content(out), summary["structures"], summary["fock_builds"]


def same(out, summary, whole):
    assert content(out) == whole[0]
    assert summary["structures"] == whole[1]
    assert summary["fock_builds"] == whole[2]
    assert summary["converged"] is True
    assert sorted(p.name for p in out.parent.iterdir()) == ["o.h5", "o.json"]


# ---- resuming ---------------------------------------------------------------------------------


def test_ctrl_c_and_resume_end_as_one_run(tmp_path, whole):
    out = tmp_path / "o.h5"
    with pytest.raises(KeyboardInterrupt):
        run(out, reporter=Reporter(3, interrupt))
    kept = json.loads((tmp_path / "o.json").read_text())
    assert (kept["stopped_by"], kept["n_structures"], kept["converged"]) == ("interrupt", 3, False)
    assert content(out) == dict(list(whole[0].items())[:3])
    reporter = Reporter()
    same(out, run(out, resume=True, reporter=reporter), whole)
    assert reporter.done == 6


def test_ctrl_c_is_said_at_once_and_in_the_last_structure_changes_nothing(tmp_path, whole):
    """By then all is computed."""
    out = tmp_path / "o.h5"
    reporter = Reporter(6, interrupt)
    same(out, run(out, reporter=reporter), whole)
    assert reporter.warnings == [f"interrupted: {FIRST}", f"interrupted: {LAST}"]


def test_a_killed_process_loses_only_what_it_was_at(tmp_path, whole):
    code = (
        "import os, signal, sys; sys.path[:0] = sys.argv[1:3]\n"
        "import test_loop as t; from pathlib import Path\n"
        "kill = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "t.run(Path(sys.argv[3]) / 'o.h5', reporter=t.Reporter(4, kill))\n"
    )
    here = os.path.dirname(__file__)  # noqa: PTH120
    root = os.path.dirname(os.path.dirname(here))  # noqa: PTH120
    done = subprocess.run([sys.executable, "-c", code, here, root, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [p.name for p in tmp_path.iterdir()] == ["o.h5.part"]
    out = tmp_path / "o.h5"
    with out.with_name("o.h5.part").open("ab") as file:
        file.write(b"DZ0J and half a record")
    for name in (".o.h5.17-0123abcd.tmp", ".o.json.17-89abcdef.tmp"):  # killed while it wrote
        (tmp_path / name).write_bytes(b"half")
    computed = []
    original = label._prepared
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            label, "_prepared", lambda m, *rest: computed.append(m.frame) or original(m, *rest)
        )
        same(out, run(out, resume=True), whole)
    assert computed == [4, 5]


def test_what_failed_is_tried_again(tmp_path, whole, monkeypatch):
    out = tmp_path / "o.h5"
    original = label._prepared

    def fails(molecule, *rest):
        if molecule.frame in (1, 4):
            raise MemoryError("no room")
        return original(molecule, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(label, "_prepared", fails)
        summary = run(out)
    assert [f["frame"] for f in summary["failed"]] == [1, 4]
    assert [s["frame"] for s in summary["structures"]] == [0, 2, 3, 5]
    assert len(content(out)) == 4
    same(out, run(out, resume=True), whole)


def test_a_longer_trajectory_goes_on(tmp_path, whole):
    out = tmp_path / "o.h5"
    with pytest.raises(KeyboardInterrupt):
        run(out, molecules(4), reporter=Reporter(2, interrupt))
    same(out, run(out, resume=True), whole)


@pytest.mark.parametrize(
    ("structures", "settings", "message"),
    [
        (molecules(1), {}, "was begun with 2 structures or more, got 1"),
        ([hydrogen(0), hydrogen(5), hydrogen(2)], {}, "another structure in the place of h2.xyz"),
        (None, {"conv_tol": 1e-7}, "was begun with conv_tol 1e-09, this is 1e-07"),
        (None, {"method": SETTINGS["method"] | {"xc": "lda"}}, "begun with xc pbe, this is lda"),
    ],
)
def test_another_problem_is_not_gone_on_with(tmp_path, structures, settings, message):
    out = tmp_path / "o.h5"
    with pytest.raises(KeyboardInterrupt):
        run(out, reporter=Reporter(2, interrupt))
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(InputError, match=message) as info:
        run(out, structures, resume=True, **settings)
    assert len(str(info.value).splitlines()) == 1
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("kind", ["cut", "flipped"])
def test_damaged_records_are_computed_again(tmp_path, whole, kind):
    out = tmp_path / "o.h5"
    with pytest.raises(KeyboardInterrupt):
        run(out, reporter=Reporter(3, interrupt))
    part = files.journal_beside(out)
    data = bytearray(part.read_bytes())
    if kind == "cut":
        del data[-5:]
    else:
        data[-5] ^= 1
    part.write_bytes(data)
    reporter = Reporter()
    same(out, run(out, resume=True, reporter=reporter), whole)
    assert reporter.done == 6


def test_a_journal_without_beginning_is_refused(tmp_path):
    files.journal_beside(tmp_path / "o.h5").write_bytes(b"something else")
    with pytest.raises(InputError, match="damaged at its beginning"):
        run(tmp_path / "o.h5", resume=True)


def test_places_of_unfinished_files(tmp_path):
    out = tmp_path / "o.h5"
    with pytest.raises(InputError, match=r"expected an unfinished .*there is none"):
        outputs.check_output(out, kind="file", resume=True)
    out.write_text("x")
    with pytest.raises(InputError, match="is complete"):
        outputs.check_output(out, kind="file", resume=True)
    files.journal_beside(out).write_text("x")
    outputs.check_output(out, kind="file", resume=True)
    with pytest.raises(InputError, match="use resume=True, overwrite=True or another"):
        outputs.check_output(out, kind="file")
    out.unlink()
    words = "begun and not finished; use resume=True or overwrite=True"
    with pytest.raises(InputError, match=words):
        outputs.check_output(out, kind="file")
    outputs.check_output(out, kind="file", overwrite=True)


# ---- several processes ------------------------------------------------------------------------


@pytest.fixture
def started():
    """Asks for the processes of this test that have not ended."""
    before = multiprocessing.active_children()
    return lambda: [p for p in multiprocessing.active_children() if p not in before]


@pytest.mark.slow
def test_processes_give_what_one_gives_and_survive_a_death(tmp_path, whole, started):
    """One start of the processes serves several questions: it costs seconds."""
    out = tmp_path / "o.h5"
    strange = hydrogen(2, z=110)  # no basis: fails like any other, in its process
    asked = [*molecules(2), strange, *molecules(6)[2:]]
    unread = {"file": "h2.xyz", "frame": 9, "error": "cut off"}
    summary = run(out, asked, workers=2, failed=[unread])
    assert summary["failed"][0] == unread
    (failed,) = summary["failed"][1:]
    assert (failed["frame"], "basis" in failed["error"]) == (2, True)
    assert content(out) == whole[0]
    assert summary["structures"] == whole[1]
    assert started() == []


@pytest.mark.slow
def test_a_killed_worker_costs_its_structure(tmp_path, whole, started):
    out = tmp_path / "o.h5"
    victims = []

    def kill():
        victims.extend(started()[:1])
        os.kill(victims[0].pid, signal.SIGKILL)
        victims[0].join()

    reporter = Reporter(1, kill)
    summary = run(out, molecules(6), workers=2, reporter=reporter)
    assert started() == []
    assert len(summary["structures"]) + len(summary["failed"]) == 6
    assert reporter.done == 6
    for entry in summary["failed"]:
        assert entry["error"] == "its worker process ended (SIGKILL, out of memory?)"
    if summary["failed"]:
        summary = run(out, resume=True)
    same(out, summary, whole)


@pytest.mark.slow
def test_ctrl_c_with_processes_finishes_what_they_are_at(tmp_path, whole, started):
    out = tmp_path / "o.h5"
    with pytest.raises(KeyboardInterrupt):
        run(out, workers=2, reporter=Reporter(1, interrupt))
    assert started() == []
    kept = json.loads((tmp_path / "o.json").read_text())
    assert kept["stopped_by"] == "interrupt"
    assert kept["failed"] == []
    assert 1 <= kept["n_structures"] <= 3
    same(out, run(out, resume=True), whole)


@pytest.mark.slow
def test_processes_that_cannot_start_are_one_line(started):
    config = LabelConfig.parse({"runtime": {"device": "cuda:63"}})
    found = workers.outcomes(
        label._LabelJob(config), iter(enumerate(molecules())), workers=2, threads=2
    )
    with pytest.raises(InputError, match="device='cuda:63'") as info:
        next(found)
    assert len(str(info.value).splitlines()) == 1
    assert started() == []


def test_a_full_disk_ends_the_batch_and_leaves_no_file_without_structures(tmp_path, monkeypatch):
    """An export that the disk refuses would fail for every structure behind it too."""

    def full(*_args, **_kwargs):
        raise NoSpaceError("cannot write w.molden (No space left on device); free some space")

    monkeypatch.setattr(label, "_prepared", full)
    with pytest.raises(NoSpaceError):
        run(tmp_path / "o.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["h5", "json"])
def test_where_the_files_do_not_fit_the_results_are_kept(tmp_path, monkeypatch, ending):
    """The journal holds them; the line says the option that goes on from it."""

    def full(*_args, **_kwargs):
        raise cannot_write(tmp_path / f"o.{ending}", OSError(errno.ENOSPC, "full"))

    with monkeypatch.context() as patched:
        name = {"h5": "PredictionWriter", "json": "write_json"}[ending]
        patched.setattr(loop, name, full)
        with pytest.raises(NoSpaceError, match=f"o.{ending}.*run it again with resume=True$"):
            run(tmp_path / "o.h5")
    summary = run(tmp_path / "o.h5", resume=True)
    assert summary["failed"] == []
    assert not (tmp_path / "o.h5.part").exists()
