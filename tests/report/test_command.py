"""`deeph-zero report`, and the report at the end of `fit`."""

import json
import os
import shutil
from pathlib import Path

import pytest

from deeph_zero.cli.main import entry_point
from deeph_zero.cli.report import report_run
from deeph_zero.host.reporting import SilentReporter


def call(capfd, *args) -> tuple[int, str, str]:
    capfd.readouterr()
    code = entry_point([str(a) for a in args])
    out, err = capfd.readouterr()
    return code, out, err


def test_report_of_a_run_is_made_anew(water_run, capfd):
    own = water_run / "report.html"
    own.write_text("old")
    code, out, err = call(capfd, "report", water_run)
    assert (code, err) == (0, "")
    assert f"written: {own}" in out
    assert own.read_text("utf-8").startswith("<!doctype html>")
    assert not (water_run / "report_plots").exists()
    assert not list(water_run.glob(".*"))


def test_plots_json_and_other_places(water_run, tmp_path, capfd):
    page = tmp_path / "deep/er/page.html"
    code, out, err = call(capfd, "report", water_run, "-o", page, "--plots", "--json")
    result = json.loads(out)
    assert (code, err, result["report"]) == (0, "", str(page))
    assert result["bytes"] == page.stat().st_size
    assert all(Path(p).is_file() for p in result["plots"])
    assert {Path(p).parent for p in result["plots"]} == {page.with_name("page_plots")}
    code, _, err = call(capfd, "report", water_run, "-o", page)
    assert code == 2
    assert err == f"error: {page} exists and is not empty; use --overwrite or another -o\n"
    page.unlink()
    assert (
        "page_plots exists; use --overwrite"
        in call(capfd, "report", water_run, "-o", page, "--plots")[2]
    )
    again = ["-o", page, "--plots", "--overwrite", "-q", "--molecules", "0"]
    assert call(capfd, "report", water_run, *again)[1:] == (
        "",
        "",
    )


def test_report_of_a_prediction_lies_beside_it(water_run, tmp_path, capfd):
    shutil.copy(water_run / "predictions.h5", tmp_path / "out.h5")
    shutil.copy(water_run / "summary.json", tmp_path / "out.json")
    assert call(capfd, "report", tmp_path / "out.h5", "--molecules", "0")[0] == 0
    page = tmp_path / "out_report.html"
    assert page.stat().st_size < 200_000, "no viewer without surfaces"
    assert call(capfd, "report", tmp_path / "out.h5")[0] == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nothing"], "expected a run folder"),
        (["{run}", "-o", "page.txt"], "expected a name ending in .html"),
        (["{run}", "--molecules", "-1"], "--molecules: expected a count"),
        (["{run}", "--molecules", "many"], "--molecules: expected a count"),
        (["{run}/model.json"], "is another kind of file"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(water_run, capfd, monkeypatch, *, args, words):
    monkeypatch.chdir(water_run.parent)
    before = sorted(water_run.parent.rglob("*"))
    code, out, err = call(capfd, "report", *[a.format(run=water_run) for a in args])
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert sorted(water_run.parent.rglob("*")) == before


class _Warnings(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def warning(self, text: str) -> None:
        self.said.append(text)


def test_a_report_that_fails_is_a_warning(water_run, tmp_path):
    reporter = _Warnings()
    report_run(water_run, reporter)
    assert reporter.said == []
    first = (water_run / "report.html").stat()
    report_run(water_run, reporter)  # nothing has changed since
    assert (water_run / "report.html").stat().st_mtime_ns == first.st_mtime_ns
    (water_run / "predictions.h5").write_bytes(b"broken")
    os.utime(water_run / "summary.json", ns=(first.st_mtime_ns + 1, first.st_mtime_ns + 1))
    report_run(water_run, reporter)
    assert len(reporter.said) == 1
    assert reporter.said[0].startswith("no report: ")
    report_run(tmp_path, reporter)  # nothing was written there: nothing to report
    assert len(reporter.said) == 1
