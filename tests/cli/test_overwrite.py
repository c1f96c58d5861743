"""``--overwrite`` trusts no list it finds: nothing outside the run folder is ever deleted."""

import json

import pytest

FIT = ("fit", "good.xyz", "--basis", "sto-3g", "-o", "run", "--overwrite")


@pytest.fixture
def stranger(folder):
    """A run whose list of files names others', and what lies around it."""
    run, others = folder / "run", folder / "others"
    for place in (run, others):
        place.mkdir()
        (place / "model.json").write_text('{"kind": "deeph-zero model"}')
        (place / "summary.json").write_text("{}")
    (others / "a.svg").write_text("a plot")
    (folder / "keep.txt").write_text("mine")
    (run / "notes.txt").write_text("mine")
    listed = [
        "../keep.txt", "../others/model.json", str(others / "summary.json"), "notes.txt", "*", ".",
        "", "..", "/", "checkpoints", "../others/*", "report_plots/../../others/a.svg",
        "report_plots/../../others/*.svg", "tensorboard/events.out.tfevents.*/../../others/a.svg",
        "model.json", None, 3, {"a": 1}, ["../keep.txt"],
    ]  # fmt: skip
    manifest = {"kind": "deeph-zero run", "version": "0.1.0", "files": listed}
    (run / ".manifest.json").write_text(json.dumps(manifest))
    return run


def contents(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.is_relative_to(folder / "run")
    }


def test_a_list_that_leads_outside_deletes_nothing_there(stranger, folder, run, engine):
    before = contents(folder)
    assert run(*FIT).code == 0
    assert len(engine.calls) == 1
    assert contents(folder) == before
    assert (stranger / "notes.txt").read_text() == "mine"
    assert json.loads((stranger / ".manifest.json").read_text())["files"] == ["model.json"]


@pytest.mark.parametrize("name", ["report_plots", "tensorboard", "checkpoints"])
def test_a_folder_that_is_a_link_is_refused_before_anything_is_deleted(
    name, stranger, folder, run, engine
):
    (stranger / name).symlink_to(folder / "others")
    before = contents(folder), sorted(p.name for p in stranger.iterdir())
    outcome = run(*FIT)
    assert outcome.code == 2
    assert f"run/{name}: expected a folder, this is a link" in outcome.err
    assert engine.calls == []
    assert (contents(folder), sorted(p.name for p in stranger.iterdir())) == before


def test_links_in_the_place_of_files_go_and_what_they_lead_to_stays(stranger, folder, run, engine):
    (stranger / "model.json").unlink()
    (stranger / "model.json").symlink_to(folder / "others" / "model.json")
    (stranger / "report_plots").mkdir()
    (stranger / "report_plots" / "a.svg").symlink_to(folder / "others" / "a.svg")
    (stranger / "mine.json").symlink_to(folder / "others" / "summary.json")
    before = contents(folder)
    assert run(*FIT).code == 0
    assert len(engine.calls) == 1
    assert contents(folder) == before
    assert not (stranger / "model.json").is_symlink()
    assert (stranger / "mine.json").is_symlink()


def test_a_run_that_is_a_link_is_that_run(stranger, folder, run, engine):
    (folder / "alias").symlink_to(stranger)
    before = contents(folder)
    assert run(*FIT[:-2], "alias", "--overwrite").code == 0
    assert len(engine.calls) == 1
    assert contents(folder) == before
