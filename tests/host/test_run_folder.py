"""What in a folder a run wrote: known by its content and its list, removed, kept, refused."""

import json
import os
import shutil
from pathlib import Path

import pytest

from deeph_zero.errors import InputError
from deeph_zero.host import outputs, run_folder


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def tree(path: Path) -> list[str]:
    return sorted(str(p) for p in path.rglob("*"))


def make_run(path: Path) -> Path:
    (path / "checkpoints" / "last.ckpt").mkdir(parents=True)
    (path / "model.json").write_text('{"kind": "deeph-zero model"}')
    for name in ("checkpoints/last.ckpt/state.json", "summary.json", "notes.txt"):
        (path / name).write_text("x")
    return path


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


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("model.json", True),
        ("checkpoints/last.ckpt/state.safetensors", True),
        ("checkpoints/crystal_17.json", True),
        ("report_plots/loss.svg", True),
        ("report_plots/loss.pdf", False),
        ("state.safetensors", False),
        ("checkpoints/model.json", False),
        ("Model.json", False),
        ("../model.json", False),
    ],
)
def test_files_of_a_run_are_known_by_their_place(name, written):
    assert run_folder.is_run_file(name) is written


DOCUMENTS = {
    "summary.json": {
        "version": "0.2", "format_version": 1, "structures": [], "stopped_by": None,
        "wall_time_s": 1.0,
    },
    "model.json": {"kind": "deeph-zero model"},
    "config.json": {"config": {}, "frames": []},
    "checkpoints/last.ckpt/state.json": {"kind": "deeph-zero checkpoint"},
    ".manifest.json": {"kind": "deeph-zero run", "files": []},
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_one_document_says_that_a_folder_is_a_run(tmp_path, name):
    assert not run_folder.is_run(tmp_path / "none")
    assert not run_folder.is_run(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text(json.dumps(DOCUMENTS[name]))
    assert run_folder.is_run(tmp_path)
    for other in ("[1]", "{", '{"kind": "another", "config": 1}', ""):
        (tmp_path / name).write_text(other)
        assert not run_folder.is_run(tmp_path), other


def test_a_list_says_first_what_may_come_and_then_what_came(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")

    def listed():
        return json.loads((tmp_path / ".manifest.json").read_text())["files"]

    with run_folder.listing(tmp_path):
        assert listed() == sorted(run_folder.RUN_FILES)
        (tmp_path / "metrics.csv").write_text("x")
        (tmp_path / "odd.txt").write_text("x")
    assert listed() == ["metrics.csv"]
    run_folder.add(tmp_path, [tmp_path / "report.html", tmp_path.parent / "elsewhere.html"])
    assert listed() == ["metrics.csv", "report.html"]
    run_folder.clear(tmp_path)
    assert names(tmp_path) == ["odd.txt", "thesis.tex"]
    run_folder.add(tmp_path, [tmp_path / "report.html"])
    assert names(tmp_path) == ["odd.txt", "thesis.tex"], "no list where there is no run"


def test_a_file_that_was_there_before_the_run_is_never_on_its_list(tmp_path):
    (tmp_path / "metrics.csv").write_text("mine")
    with run_folder.listing(tmp_path):
        (tmp_path / "metrics.csv").write_text("over it")
        (tmp_path / "summary.json").write_text("x")
    run_folder.clear(tmp_path)
    assert names(tmp_path) == ["metrics.csv"]


def test_a_block_that_wrote_nothing_leaves_no_list(tmp_path):
    with pytest.raises(KeyError), run_folder.listing(tmp_path):
        raise KeyError
    assert names(tmp_path) == []


def test_half_written_files_go_with_their_run(tmp_path):
    run = make_run(tmp_path / "run")
    leavings = [
        "model.safetensors.new",
        ".metrics.csv.8-x.tmp",
        "checkpoints/last.ckpt/.state.json.1-a.tmp",
    ]
    for name in leavings:
        (run / name).write_text("half")
    (run / ".thesis.tex.1-a.tmp").write_text("mine")
    run_folder.clear(run)
    assert names(run) == [".thesis.tex.1-a.tmp", "notes.txt"]
