"""The command ``project``: what is refused before anything is computed."""

from pathlib import Path

import numpy as np
import pytest

from deeph_zero.cli.project import _Call, project
from deeph_zero.settings.project_config import ProjectConfig

CELL = 'Lattice="4 0 0 0 4 0 0 0 4" pbc="T T T"'


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("v.npy", np.zeros((8, 8, 8)))
    np.save("odd.npy", np.zeros((8, 8)))
    Path("h.xyz").write_text(f"2\n{CELL}\nH 0 0 0\nH 0 0 0.74\n")
    Path("molecule.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.74\n")
    Path("taken.h5").write_bytes(b"mine")
    return tmp_path


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["none.npy", "h.xyz"], "none.npy"),
        (["odd.npy", "h.xyz"], "odd.npy"),
        (["v.npy", "none.xyz"], "none.xyz"),
        (["v.npy", "molecule.xyz", "--pseudo", "gth-pade"], "molecule.xyz"),
        (["v.npy", "v.npy"], "v.npy"),
        (["v.npy", "h.xyz", "-o", "taken.h5"], "taken.h5 exists and is not empty; use --overwrite"),
        (["v.npy", "h.xyz", "-o", "v.npy"], "-o v.npy: this is an input of the same command"),
        (["v.npy", "h.xyz", "--kmesh", "0", "1", "1"], "--kmesh: expected three whole numbers"),
        (["v.npy", "h.xyz", "--unit", "Ry"], "--unit: expected one of hartree, eV, rydberg"),
        (["v.npy", "h.xyz", "--pseudo", "gth-pade", "--basis", "no/b.nw"], "no/b.nw"),
        (["v.npy", "h.xyz", "--pseudo", "none.upf"], "none.upf"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(run, words, line):
    before = sorted(Path.cwd().iterdir())
    result = run("project", *words)
    assert (result.code, result.out) == (2, "")
    assert line in result.err
    assert result.err.count("\n") == 1
    assert sorted(Path.cwd().iterdir()) == before
    assert Path("taken.h5").read_bytes() == b"mine"


def test_every_file_that_is_read_is_kept_from_being_the_output():
    options = dict.fromkeys(p.name for p in project.params) | {
        "potential": "v.npy", "structure": "h.xyz", "down": "d.npy", "basis": ("a.ion", "sto-3g"),
        "pseudo": ("h.upf",), "output": None,
    }  # fmt: skip
    call = _Call(ProjectConfig(), options, "deeph-zero project")
    assert call._inputs() == ["v.npy", "h.xyz", "d.npy", "a.ion", "sto-3g", "h.upf"]
    assert call._out == Path("v_ao.h5")
    assert _Call(ProjectConfig(), options | {"down": None}, "")._inputs()[:3] == [
        "v.npy", "h.xyz", "a.ion",
    ]  # fmt: skip
