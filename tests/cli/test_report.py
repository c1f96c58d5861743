"""The command ``report``: where the page goes, what it may replace, and a page that fails."""

import json
import os
from pathlib import Path

import pytest

from deeph_zero.cli.report import _count, report_run
from deeph_zero.errors import InputError
from deeph_zero.report import DEFAULT_MOLECULES, page


@pytest.fixture
def ran(tmp_path, monkeypatch, make_summary):
    """A run folder without matrices."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    entry = {"file": "w.xyz", "frame": 0, "energy": -76.25, "converged": True}
    (folder / "summary.json").write_text(json.dumps(make_summary([entry])))
    return folder


@pytest.mark.parametrize(
    ("text", "count"), [(None, DEFAULT_MOLECULES), ("0", 0), ("999999", 999999)]
)
def test_a_count(text, count):
    assert _count(text) == count


@pytest.mark.parametrize("text", ["-1", "1.5", "", "1000000", "many", "٣"])
def test_no_count(text):
    with pytest.raises(InputError, match="--molecules: expected a count from 0 to 999999, got"):
        _count(text)


@pytest.mark.usefixtures("ran")
def test_a_runs_own_page_is_made_anew_and_another_is_kept(run):
    first = run("report", "run")
    assert first.code == 0, first.err
    assert first.out.startswith("written: run/report.html (")
    assert "-76.25000000" in Path("run/report.html").read_text("utf-8")
    assert run("report", "run/", "-q").out == ""
    Path("mine.html").write_text("mine")
    assert "mine.html exists and is not empty" in run("report", "run", "-o", "mine.html").err
    assert Path("mine.html").read_text() == "mine"
    assert run("report", "run", "-o", "mine.html", "--overwrite").code == 0
    told = json.loads(run("report", "run", "-o", "run/report.html", "--json").out)
    assert told == {
        "report": "run/report.html", "plots": [], "bytes": Path("run/report.html").stat().st_size
    }  # fmt: skip


@pytest.mark.usefixtures("ran")
def test_plots_lie_in_a_folder_of_their_own(run):
    Path("p_plots").mkdir()
    assert "p_plots exists; use --overwrite" in run("report", "run", "-o", "p.html", "--plots").err
    Path("elsewhere").mkdir()
    Path("l_plots").symlink_to("elsewhere")
    words = ["report", "run", "-o", "l.html", "--plots", "--overwrite"]
    assert "l_plots: expected a folder, this is a link" in run(*words).err
    assert not Path("l.html").exists()


@pytest.mark.usefixtures("ran")
def test_plots_of_an_earlier_call_go_and_those_of_others_stay(run, monkeypatch):
    names = iter((["a", "b"], ["b"], ["c"]))

    def write_plots(_source, folder, *, molecules):
        del molecules
        folder.mkdir(exist_ok=True)
        paths = [folder / f"{name}.svg" for name in next(names)]
        for path in paths:
            path.write_text("plot")
        return paths

    monkeypatch.setattr(page, "write_plots", write_plots)

    def there():
        return sorted(p.name for p in Path("p_plots").iterdir() if p.name != ".manifest.json")

    words = "report", "run", "-o", "p.html", "--plots", "--overwrite"
    assert run(*words).err == ""
    assert there() == ["a.svg", "b.svg"]
    Path("p_plots/mine.png").write_text("mine")
    Path("p_plots/notes.txt").write_text("mine")
    told = "p_plots: 1 other picture lay there before and stayed, such as mine.png; remove"
    assert told in run(*words).err
    assert there() == ["b.svg", "mine.png", "notes.txt"]
    Path("p_plots/.manifest.json").write_text('{"kind": "deeph-zero plots", "files": ["../x", 1]}')
    assert "2 other pictures lay there before and stayed, such as b.svg" in run(*words).err
    assert there() == ["b.svg", "c.svg", "mine.png", "notes.txt"]


def test_a_page_that_cannot_be_made_is_one_warning(ran, said, monkeypatch):
    report_run(ran, said)
    assert not (ran / "report.html").exists(), "without predictions there is nothing to show"
    (ran / "predictions.h5").write_bytes(b"")

    def broken(_run, _page):
        raise ValueError("a long\nstory " + "x" * 300)

    monkeypatch.setattr(page, "write_report", broken)
    report_run(ran, said)
    (line,) = said.warnings
    assert line.startswith("no report: a long story xxx")
    assert line.endswith("; the run is complete without it")
    assert len(line) < 260


def test_a_page_that_is_newer_than_its_run_is_kept(ran, said, monkeypatch):
    made = []
    monkeypatch.setattr(page, "write_report", lambda *paths: made.append(paths))
    (ran / "predictions.h5").write_bytes(b"")
    (ran / "report.html").write_text("page")
    report_run(ran, said)
    assert made == []
    later = (ran / "report.html").stat().st_mtime_ns + 10
    os.utime(ran / "summary.json", ns=(later, later))
    report_run(ran, said)
    assert made == [(ran, ran / "report.html")]
