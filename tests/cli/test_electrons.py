"""More electrons than orbitals: one line with file, frame and both numbers, before any work."""

import json
from pathlib import Path

import pytest

from deeph_zero.cli.main import entry_point

TINY = ("--basis", "sto-3g", "--grid-level", "0", "--threads", "1", "--device", "cpu")
DIANION = "2\ncharge=-2 spin=0\nHe 0 0 0\nHe 0 0.3 2\n"
ATOM = "1\n\nHe 0 0 0\n"
DUPLICATES = """BASIS "ao basis" PRINT
#BASIS SET: (2s) -> [2s]
He    S
      1.0  1.0
He    S
      1.0000001  1.0
END
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    (tmp_path / "bad.xyz").write_text(DIANION)
    (tmp_path / "both.xyz").write_text(ATOM + DIANION)
    (tmp_path / "twice.xyz").write_text("2\nspin=4\nHe 0 0 0\nHe 0 0.3 2\n")
    (tmp_path / "twice.nw").write_text(DUPLICATES)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", ["label", "fit"])
def test_no_structure_that_can_be_computed_is_exit_code_2(command, capfd):
    out = "out.h5" if command == "label" else "out"
    assert entry_point([command, "bad.xyz", *TINY, "-o", out]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: bad.xyz frame 0: expected at most 2 electron pairs for 2 orb")
    assert "got 3 (charge -2)" in line
    assert not Path(out).exists()


def test_a_bad_frame_leaves_the_others(capfd):
    assert entry_point(["label", "both.xyz", *TINY, "-o", "out.h5"]) == 1
    assert "both.xyz frame 1: expected at most 2 electron pairs" in capfd.readouterr().err
    summary = json.loads(Path("out.json").read_text())
    assert [entry["frame"] for entry in summary["failed"]] == [1]
    assert summary["structures"][0]["energy"] == pytest.approx(-2.83, abs=0.1)


def test_dependent_functions_are_found_with_the_overlap(capfd):
    given = ("--basis", "twice.nw", "--xc", "hf", "--no-density-fit", "--threads", "1")
    assert entry_point(["fit", "twice.xyz", *given, "--device", "cpu", "-o", "out"]) == 2
    (line,) = [x for x in capfd.readouterr().err.splitlines() if x.startswith("error")]
    assert line.startswith("error: twice.xyz frame 0: expected at most 2 electrons of one spin")
    assert "2 linearly independent orbitals (of 4 functions), got 4" in line
