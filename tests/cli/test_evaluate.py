"""The command ``evaluate``: where its result goes, and what is no reference."""

import sqlite3
from pathlib import Path

import pytest


@pytest.fixture
def place(folder):
    with sqlite3.connect("q.db") as connection:
        connection.execute("CREATE TABLE data (id, N, Z, pos, Ham)")
    connection.close()
    Path("m.h5").write_bytes(b"x")
    Path("taken.json").write_text("{}")
    return folder


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["model", "q.db"], "q.db: expected labels or structures, got a QH9 database; make labels"),
        (["model", "none.xyz"], "none.xyz: "),
        (["none", "good.xyz"], "expected a model (run folder or model.safetensors), got none"),
        (
            ["model", "good.xyz", "-o", "taken.json"],
            "taken.json exists and is not empty; use --ove",
        ),
        (["model", "good.xyz", "-o", "o.h5"], "-o o.h5: expected a name ending in .json"),
        (["model", "good.xyz", "--max-cycle", "0"], "--max-cycle: expected a whole number from 1"),
        (
            ["m.h5", "m.h5", "--no-scf"],
            (
                "m.h5: expected one file to compare these matrices with and no option of a model, "
                "got --scf; give a model"
            ),
        ),
        (["m.h5", "a.h5", "b.h5"], "m.h5: expected one file to compare these matrices with and no"),
        (["m.h5", "a.h5", "-o", "m.h5"], "-o m.h5: this is an input of the same command"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(run, words, line):
    before = sorted(Path.cwd().iterdir())
    result = run("evaluate", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {line}")
    assert result.err.count("\n") == 1
    assert sorted(Path.cwd().iterdir()) == before
