"""Output files: whole or not at all, and never over something else."""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host import files, hdf5, outputs
from deeph_zero.jobs.journal import Journal

ARRAYS = {
    "numbers": np.array([1, 1]),
    "positions": np.arange(6.0).reshape(2, 3),
    "overlap": np.eye(4),
    "fock": np.full((2, 4, 4), 0.25),
    "fock_rebuilt": None,
}
FULL = r"No space left on device.*free some space"
ATTRIBUTES = {"energy": -1.5, "charge": 0, "spin": 2, "xc": "pbe", "basis": "def2-svp"}


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def raiser(error: BaseException):
    def fail(*_args, **_kwargs):
        raise error

    return fail


def test_groups_datasets_and_attributes(tmp_path):
    out = tmp_path / "out.h5"
    with hdf5.PredictionWriter(out) as writer:
        assert not out.exists()
        assert [writer.write(ARRAYS, ATTRIBUTES), writer.write(ARRAYS, {"energy": None})] == [
            "0000", "0001",
        ]  # fmt: skip
    with h5py.File(out) as h5:
        assert list(h5) == ["0000", "0001"]
        assert set(h5["0000"]) == set(ARRAYS) - {"fock_rebuilt"}
        np.testing.assert_array_equal(h5["0000/fock"][:], ARRAYS["fock"])
        assert dict(h5["0000"].attrs) == ATTRIBUTES | {"ao_order": "pyscf"}
        assert dict(h5["0001"].attrs) == {"ao_order": "pyscf"}
    assert names(tmp_path) == ["out.h5"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failing_block_leaves_the_old_file(tmp_path, error):
    out = tmp_path / "out.h5"
    out.write_bytes(b"old")
    with pytest.raises(error), hdf5.PredictionWriter(out) as writer:  # noqa: PT012  (the block itself must fail)
        assert writer.write(ARRAYS, ATTRIBUTES) == "0000"
        raise error
    assert names(tmp_path) == ["out.h5"]
    assert out.read_bytes() == b"old"


def test_unknown_dataset_is_refused(tmp_path):
    writer = hdf5.PredictionWriter(tmp_path / "o.h5")
    with writer, pytest.raises(ValueError, match="'fok'"):
        writer.write({"fok": np.eye(2)}, {})
    with pytest.raises(ValueError, match="with block"):
        writer.write(ARRAYS, {})


def test_writer_in_a_missing_folder(tmp_path):
    with pytest.raises(ComputationError, match=r"cannot write .*o\.h5 \(No such file"):
        hdf5.PredictionWriter(tmp_path / "no" / "o.h5").__enter__()


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Path, "write_text", raiser(full))
    with pytest.raises(ComputationError, match=FULL):
        files.write_json(tmp_path / "summary.json", {"a": 1})
    assert names(tmp_path) == []


def test_temporary_names_cannot_be_foreseen(tmp_path):
    with files.atomic_path(tmp_path / "a") as one, files.atomic_path(tmp_path / "a") as other:
        assert one != other
        assert one.read_bytes() == b""


LINKS = {
    "symbolic": lambda path, target: path.symlink_to(target),
    "dangling": lambda path, target: path.symlink_to(target.with_name("none")),
    "hard": lambda path, target: path.hardlink_to(target),
    "pipe": lambda path, _target: os.mkfifo(path),
    "folder": lambda path, _target: path.mkdir(),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_in_the_place_of_own_files_are_not_followed(tmp_path, kind):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "run").mkdir()
    for own in (tmp_path / "run" / ".lock", tmp_path / "o.h5.part"):
        LINKS[kind](own, precious)
    before = tree(tmp_path)
    claim = outputs.claim_output(tmp_path / "run", kind="run")
    with pytest.raises(InputError, match=r"\.lock: expected a file of deeph-zero's own, this is"):
        claim.__enter__()
    with pytest.raises(InputError, match=r"o\.h5\.part: expected a file of deeph-zero's own"):
        Journal(tmp_path / "o.h5", {}, resume=False)
    assert precious.read_text() == "precious"
    assert tree(tmp_path) == before


def test_a_foreign_file_in_the_place_of_a_journal_is_kept(tmp_path):
    part = tmp_path / "o.h5.part"
    part.write_text("half a download")
    with pytest.raises(InputError, match="expected an unfinished output, this is another file"):
        Journal(tmp_path / "o.h5", {}, resume=False)
    assert part.read_text() == "half a download"


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Can't decrement id ref count (file write failed: errno = 28, error message)"),
    ],
)
def test_hdf5_on_a_full_disk_is_one_sentence(tmp_path, monkeypatch, error):
    out = tmp_path / "out.h5"

    monkeypatch.setattr(h5py.Group, "create_dataset", raiser(error))
    with (
        pytest.raises(ComputationError, match=FULL) as info,
        hdf5.PredictionWriter(out) as writer,
    ):
        writer.write(ARRAYS, ATTRIBUTES)
    assert len(str(info.value).splitlines()) == 1
    assert names(tmp_path) == []


def test_json_is_standard_json(tmp_path):
    data = {
        "nan": float("nan"),
        "array": np.array([1.0, np.inf]),
        "int": np.int64(3),
        "bool": np.bool_(True),
        "path": Path("a"),
        "tuple": (1, None),
    }
    files.write_json(tmp_path / "a.json", data)
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "nan": None, "array": [1.0, None], "int": 3, "bool": True, "path": "a", "tuple": [1, None],
    }  # fmt: skip


def test_failing_json_keeps_the_old_one(tmp_path):
    files.write_json(tmp_path / "a.json", [1])
    with pytest.raises(TypeError):
        files.write_json(tmp_path / "a.json", {"a": object()})
    assert json.loads((tmp_path / "a.json").read_text()) == [1]
    assert names(tmp_path) == ["a.json"]


def make_run(path: Path) -> Path:
    (path / "checkpoints" / "last.ckpt").mkdir(parents=True)
    (path / "model.json").write_text('{"kind": "deeph-zero model"}')
    for name in ("checkpoints/last.ckpt/state.json", "summary.json", "notes.txt"):
        (path / name).write_text("x")
    return path


def refusals(tmp_path: Path) -> dict:
    run = make_run(tmp_path / "run")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("x")
    (tmp_path / "empty").mkdir()
    h5 = tmp_path / "o.h5"
    h5.write_bytes(b"x")
    (tmp_path / "p.json").write_text("{}")
    (tmp_path / "d.h5").mkdir()
    return {
        "taken": ((run, "run"), {}, "exists and is not empty; use --resume or --overwrite"),
        "both": ((run, "run"), {"resume": True, "overwrite": True}, "exclude each other"),
        "is a file": ((h5, "run"), {}, "expected a run folder, this is a file"),
        "resume nothing": ((tmp_path / "no", "run"), {"resume": True}, "there is none"),
        "resume empty": ((tmp_path / "empty", "run"), {"resume": True}, "there is none"),
        "resume foreign": ((foreign, "run"), {"resume": True}, "this folder holds none"),
        "overwrite foreign": ((foreign, "run"), {"overwrite": True}, "only runs are replaced"),
        "below a file": ((h5 / "run", "run"), {}, "is a file, not a folder"),
        "file taken": ((h5, "file"), {}, "use --overwrite or another"),
        "summary taken": ((tmp_path / "p.h5", "file"), {}, "p.json exists"),
        "file is folder": ((tmp_path / "d.h5", "file"), {"overwrite": True}, "this is a folder"),
        "suffix": ((tmp_path / "o.txt", "file"), {}, "ending in .h5"),
        "input": ((h5, "file"), {"overwrite": True, "inputs": [h5]}, "is an input"),
        "below": ((h5 / "a.h5", "file"), {}, "is a file, not a folder"),
        "long": ((tmp_path / ("n" * 300), "run"), {}, "name too long"),
    }


CASES = [
    "taken", "both", "is a file", "resume nothing", "resume empty", "resume foreign",
    "overwrite foreign", "below a file", "file taken", "summary taken", "file is folder", "suffix",
    "input", "below", "long",
]  # fmt: skip


def tree(path: Path) -> list[str]:
    return sorted(str(p) for p in path.rglob("*"))


@pytest.mark.parametrize("case", CASES)
def test_refused_outputs_change_nothing(tmp_path, case):
    cases = refusals(tmp_path)
    assert set(cases) == set(CASES)
    (path, kind), options, word = cases[case]
    before = tree(tmp_path)
    with (
        pytest.raises(InputError, match=f"(?i){word}") as info,
        outputs.claim_output(path, kind=kind, **options),
    ):
        raise AssertionError("claimed")
    assert len(str(info.value).splitlines()) == 1
    assert tree(tmp_path) == before


def test_no_permission(tmp_path, monkeypatch):
    """Root may write anywhere, so the system's answer is simulated."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="no permission to write in"):
        outputs.check_output(tmp_path / "run", kind="run")


def test_read_only_file_system(tmp_path, monkeypatch):
    error = OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr(Path, "mkdir", raiser(error))
    claim = outputs.claim_output(tmp_path / "run", kind="run")
    with pytest.raises(InputError, match="Read-only file system"):
        claim.__enter__()


def test_overwrite_removes_the_run_and_nothing_else(tmp_path):
    run = make_run(tmp_path / "run")
    with outputs.claim_output(run, kind="run", overwrite=True) as path:
        assert path == run
        assert names(run) == [".lock", ".manifest.json", "notes.txt"]
    assert names(run) == ["notes.txt"]


@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_a_run_killed_early_is_still_a_run(tmp_path, option):
    run = tmp_path / "run"
    run.mkdir()
    leavings = [".summary.json.17-ab.tmp", ".config.json.17.tmp", "model.safetensors.new"]
    for name in leavings:
        (run / name).write_text("x")
    with outputs.claim_output(run, kind="run", **{option: True}):
        kept = [] if option == "overwrite" else leavings
        assert names(run) == sorted([".lock", ".manifest.json", *kept])
    (run / "thesis.tex").write_text("x")
    (run / "metrics.csv").write_text("x")
    with pytest.raises(InputError):
        outputs.check_output(run, kind="run", **{option: True})


def test_resume_keeps_everything(tmp_path):
    run = make_run(tmp_path / "run")
    before = tree(run)
    with outputs.claim_output(run, kind="run", resume=True):
        pass
    assert [name for name in tree(run) if not name.endswith(".manifest.json")] == before


FOREIGN = {
    "checkpoints": ["checkpoints/epoch=3.ckpt", "train.py"],
    "another program's model": ["config.json", "model.safetensors"],
    "its summary": ["summary.json"],
    "its metrics": ["metrics.csv"],
    "its checkpoint": ["checkpoints/last.ckpt/state.safetensors"],
    "its predictions": ["predictions.h5", "model.json"],
    "a list of something else": [".manifest.json"],
}


@pytest.mark.parametrize("case", FOREIGN)
@pytest.mark.parametrize("option", ["resume", "overwrite"])
def test_folders_of_other_programs_are_no_runs(tmp_path, case, option):
    run = tmp_path / "run"
    for name in FOREIGN[case]:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text('{"epoch": 3, "files": ["model.json"]}')
    (run / "own.txt").write_text("x")
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"only runs are replaced|this folder holds none"):
        outputs.check_output(run, kind="run", **{option: True})
    assert tree(tmp_path) == before


def test_overwrite_removes_what_the_list_says(tmp_path):
    run = tmp_path / "run"
    with outputs.claim_output(run, kind="run"):
        (run / "checkpoints" / "last.ckpt").mkdir(parents=True)
        for name in ("model.json", "checkpoints/last.ckpt/state.json"):
            (run / name).write_text("x")
    for name in ("summary.json", "checkpoints/epoch=3.ckpt", "mine.txt"):
        (run / name).write_text("mine")
    with outputs.claim_output(run, kind="run", overwrite=True):
        found = [p.name for p in run.rglob("*") if p.is_file()]
        assert sorted(found) == [
            ".lock", ".manifest.json", "epoch=3.ckpt", "mine.txt", "summary.json",
        ]  # fmt: skip


@pytest.mark.parametrize("place", ["checkpoints", "tensorboard", "report_plots"])
@pytest.mark.parametrize("how", ["new", "resume", "overwrite"])
def test_a_linked_folder_is_not_written_through(tmp_path, place, how):
    run = tmp_path / "run"
    run.mkdir()
    if how != "new":
        make_run(run)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "events.out.tfevents.1").write_text("mine")
    if (run / place).is_dir():
        shutil.rmtree(run / place)
    (run / place).symlink_to(tmp_path / "mine")
    flags = {} if how == "new" else {how: True}
    with (
        pytest.raises(InputError, match=f"{place}: expected a folder, this is a link|not empty"),
        outputs.claim_output(run, kind="run", **flags),
    ):
        pass
    assert (tmp_path / "mine" / "events.out.tfevents.1").read_text() == "mine"


@pytest.mark.parametrize("name", ["summary.json", "metrics.csv", "config.toml"])
def test_what_is_no_file_stands_in_the_way_at_once(tmp_path, name):
    run = make_run(tmp_path / "run")
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir()
    with pytest.raises(InputError, match=f"{name}: expected a file, this is a folder"):
        outputs.check_output(run, kind="run", resume=True)
    (run / name).rmdir()
    os.mkfifo(run / name)
    with pytest.raises(InputError, match=f"{name}: expected a file, this is a named pipe"):
        outputs.check_output(run, kind="run", overwrite=True)


def test_an_output_in_the_place_of_a_link_leaves_what_it_led_to(tmp_path):
    (tmp_path / "mine.html").write_text("mine")
    (tmp_path / "o.html").symlink_to("mine.html")
    with outputs.claim_output(tmp_path / "o.html", kind="html", overwrite=True) as out:
        files.write_text(out, "page")
    assert (tmp_path / "mine.html").read_text() == "mine"
    assert (tmp_path / "o.html").read_text() == "page"
    assert not (tmp_path / "o.html").is_symlink()


@pytest.mark.parametrize("kind", ["html", "other", "file"])
def test_a_pipe_is_no_place_for_an_output(tmp_path, kind):
    path = tmp_path / {"html": "o.html", "other": "o.db", "file": "o.h5"}[kind]
    os.mkfifo(path)
    with pytest.raises(InputError, match="expected a file, this is a named pipe"):
        outputs.check_output(path, kind=kind, overwrite=True)


def test_a_list_cannot_name_what_lies_elsewhere(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (tmp_path / "model.json").write_text("mine")
    names_ = ["../model.json", str(tmp_path / "model.json"), "thesis.tex", 3, "checkpoints"]
    (run / ".manifest.json").write_text(json.dumps({"kind": "deeph-zero run", "files": names_}))
    (run / "thesis.tex").write_text("mine")
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "a.ckpt").write_text("mine")
    with outputs.claim_output(run, kind="run", overwrite=True):
        assert (tmp_path / "model.json").exists()
        assert (run / "thesis.tex").exists()
        assert (run / "checkpoints" / "a.ckpt").exists()


def apart(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "config.toml").write_text("x")
    (tmp_path / "a.xyz").write_text("x")
    (tmp_path / "hard.xyz").hardlink_to(tmp_path / "a.xyz")
    (tmp_path / "soft.xyz").symlink_to("a.xyz")
    (tmp_path / "link").symlink_to("run")
    (tmp_path / "d").mkdir()
    return {
        "the same": ([("-o", "a.xyz")], ["a.xyz"]),
        "spelled otherwise": ([("--molden", "d/../a.xyz")], ["./a.xyz"]),
        "hard link": ([("--molden", "hard.xyz")], ["a.xyz"]),
        "soft link": ([("--molden", "a.xyz")], ["soft.xyz"]),
        "summary of an input": ([("-o", "l.json")], ["l.h5"]),
        "two outputs": ([("--chkfile", "n"), ("--molden", "./n")], []),
        "two through a folder": ([("-o", "run/n"), ("--molden", "link/n")], []),
        "the run itself": ([("-o", "run")], ["link"]),
        "a run's file": ([("-o", "run")], ["run/predictions.h5"]),
        "a run's settings": ([("-o", "link")], ["run/config.toml"]),
        "the model's predictions": ([("-o", "link/predictions.h5")], ["run"]),
        "the model's summary": ([("-o", "run/summary.json")], ["run/model.safetensors"]),
    }


@pytest.mark.parametrize("case", range(12))
def test_outputs_are_no_inputs_and_no_other_outputs(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    written, read = list(apart(tmp_path).values())[case]
    with pytest.raises(InputError, match=r"is an input|a file of its own") as info:
        outputs.check_apart([(option, Path(name)) for option, name in written], read)
    assert len(str(info.value).splitlines()) == 1


def test_what_is_apart_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    apart(tmp_path)
    outputs.check_apart([("-o", Path("o.h5")), ("--molden", Path("o.molden"))], ["a.xyz", "run"])
    outputs.check_apart([("-o", Path("run"))], ["run/notes.txt", "smiles:CC", "a.xyz"])
    outputs.check_apart([("-o", Path("run"))], ["run/config.toml"], resume=True)
    outputs.check_apart([("-o", Path("run/report.html"))], ["run"])


def test_one_command_per_run(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with (run / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        claim = outputs.claim_output(run, kind="run")
        with pytest.raises(InputError, match="in use by another deeph-zero"):
            claim.__enter__()


@pytest.mark.parametrize("keep", [True, False])
def test_folders_made_for_nothing_go_away(tmp_path, keep):
    run = tmp_path / "a" / "b" / "run"
    with contextlib.suppress(InputError), outputs.claim_output(run, kind="run"):
        if keep:
            (run / "model.json").write_text("x")
        raise InputError("found out late")
    assert (tmp_path / "a").exists() is keep


def test_relative_names_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with outputs.claim_output(Path("run"), kind="run"):
        assert (tmp_path / "run").is_dir()
    outputs.check_output(Path("o.h5"), kind="file")


def test_what_is_no_ordinary_file_is_refused(tmp_path):
    pipe = tmp_path / "p.xyz"
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for path in (pipe, tmp_path / "link"):
        with pytest.raises(InputError, match="expected a file, this is a named pipe; copy"):
            files.regular_file(path)
    with pytest.raises(InputError, match="this is a device"):
        files.regular_file("/dev/zero")
    for path in (tmp_path, tmp_path / "none", __file__, "a\0b"):
        files.regular_file(path)


def test_links_that_lead_nowhere_are_one_line(tmp_path):
    loop = tmp_path / "o.h5"
    loop.symlink_to(loop)
    with pytest.raises(InputError, match="leads nowhere"):
        outputs.check_output(loop, kind="file", overwrite=True)
    outputs.check_output(tmp_path / "other.h5", kind="file", inputs=[loop])
    (tmp_path / "alias.h5").symlink_to(tmp_path / "in.h5")
    (tmp_path / "in.h5").touch()
    with pytest.raises(InputError, match="input of the same command"):
        outputs.check_output(tmp_path / "in.h5", kind="file", inputs=[tmp_path / "alias.h5"])


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from deeph_zero.errors import ComputationError
from deeph_zero.host.hdf5 import PredictionWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
eye = np.random.default_rng(0).normal(size=(12, 12))
arrays = dict.fromkeys(("overlap", "fock", "density"), eye) | {"numbers": np.ones(3, int)}
for size in range(0, 60_000, 700):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        with PredictionWriter(Path(sys.argv[1]) / "o.h5") as writer:
            for _ in range(20):
                writer.write(arrays, {"xc": "pbe", "energy": -1.0})
    except ComputationError as error:
        assert "free some space" in str(error), error
        continue
    print("written with", size)
    break
"""


def test_no_size_of_a_full_disk_crashes_hdf5(tmp_path):
    """HDF5 itself may end in a segmentation fault when it closes a file it could not write."""
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "written with" not in ended.stdout
    assert names(tmp_path) == []


def test_a_table_is_whole_and_says_what_a_row_lacks(tmp_path):
    files.write_csv(tmp_path / "a.csv", ["x", "y"], [{"x": 1, "z": 3}, {"y": 2}])
    assert (tmp_path / "a.csv").read_text().splitlines() == ["x,y", "1,", ",2"]
