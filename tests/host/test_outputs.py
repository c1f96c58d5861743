"""The place of an output: free, held while it is written, and never that of an input."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path

import pytest

from deeph_zero.errors import InputError
from deeph_zero.host import files, outputs
from deeph_zero.jobs.journal import Journal


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def raiser(error: BaseException):
    def fail(*_args, **_kwargs):
        raise error

    return fail


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
        "taken": ((run, "run"), {}, "exists and is not empty; use resume=True or overwrite=True"),
        "both": ((run, "run"), {"resume": True, "overwrite": True}, "exclude each other"),
        "is a file": ((h5, "run"), {}, "expected a run folder, this is a file"),
        "resume nothing": ((tmp_path / "no", "run"), {"resume": True}, "there is none"),
        "resume empty": ((tmp_path / "empty", "run"), {"resume": True}, "there is none"),
        "resume foreign": ((foreign, "run"), {"resume": True}, "this folder holds none"),
        "overwrite foreign": ((foreign, "run"), {"overwrite": True}, "only runs are replaced"),
        "below a file": ((h5 / "run", "run"), {}, "is a file, not a folder"),
        "file taken": ((h5, "file"), {}, "use overwrite=True or another"),
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


def test_a_run_that_ended_meanwhile_stays(tmp_path, monkeypatch):
    """The place is looked at again once it is held."""
    run = tmp_path / "run"
    held = outputs.open_held

    def late(lock, folder):
        make_run(run)
        return held(lock, folder)

    monkeypatch.setattr(outputs, "open_held", late)
    claim = outputs.claim_output(run, kind="run")
    with pytest.raises(InputError, match="exists and is not empty; use resume=True or"):
        claim.__enter__()
    assert (run / "summary.json").exists()


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


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_what_another_process_writes_is_said_to_be_in_use(tmp_path, options):
    run, out = make_run(tmp_path / "run"), tmp_path / "o.h5"
    journal = Journal(out, {}, resume=False)
    with outputs.claim_output(run, kind="run", resume=True):
        with pytest.raises(InputError, match=r"run is in use by another deeph-zero; wait for it"):
            outputs.check_output(run, kind="run", **options)
        with pytest.raises(InputError, match=r"o\.h5 is in use by another deeph-zero; wait for it"):
            outputs.check_output(out, kind="file", **options)
    journal.close(remove=False)
    outputs.check_output(out, kind="file", resume=True)
    outputs.check_output(run, kind="run", resume=True)


def test_a_lock_that_was_removed_while_it_was_opened_is_opened_anew(tmp_path, monkeypatch):
    """Its last holder removes it when it ends: a hold of what has no name holds nothing."""
    lock, opened = tmp_path / ".lock", []

    def open_early(path, **how):
        descriptor = files.open_own(path, **how)
        if not opened:
            path.unlink()
        opened.append(path)
        return descriptor

    monkeypatch.setattr(outputs, "open_own", open_early)
    with outputs.open_held(lock, tmp_path):
        assert len(opened) == 2
        with (
            pytest.raises(InputError, match="is in use by another deeph-zero"),
            outputs.open_held(lock, tmp_path),
        ):
            pass
