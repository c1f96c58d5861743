"""The command ``bands``: what is a model, what a file of blocks, its table and its pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.cli import bands
from deeph_zero.data.formats.labels import LabelsSink
from deeph_zero.data.formats.protocol import Matrices, Record, Structure
from deeph_zero.host.hdf5 import PredictionWriter


def layer(path, copies=1):
    """One s function per cell of a square layer, with a Fermi level."""
    cells = torch.tensor([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    pairs = torch.zeros(5, 2, dtype=torch.long)
    hop = torch.tensor([0.1, -0.05, -0.05, -0.05, -0.05], dtype=torch.float64)
    unit = torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.float64)
    matrices = Matrices(
        shells=((0,),),
        fock=BlockMatrix.packed(pairs, cells, hop, (1,)),
        overlap=BlockMatrix.packed(pairs, cells, unit, (1,)),
        facts={"fermi": 0.1},
    )
    structure = Structure(
        numbers=np.array([1]), coords=np.zeros((1, 3)), lattice=np.diag([4.0, 4.0, 20.0]),
        pbc=np.array([True, True, False]),
    )  # fmt: skip
    with PredictionWriter(path) as writer:
        sink = LabelsSink(writer, "toy")
        for _ in range(copies):
            sink.write(Record(structure, matrices))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layer(Path("l.h5"), copies=2)
    Path("s.xyz").write_text("1\n\nH 0 0 0\n")
    Path("empty").mkdir()
    Path("killed").mkdir()
    Path("killed/model.safetensors").touch()
    for name in ("taken.png", "many_0001.png"):
        Path(name).write_bytes(b"mine")
    return tmp_path


@pytest.mark.usefixtures("place")
def test_bands_are_written_shown_and_drawn(run):
    result = run("bands", "l.h5", "--path", "GXM", "--points", "5", "--dos", "--plot", "p.PNG")
    assert result.code == 0, result.err
    assert "l.h5:0" in result.out
    assert "metal" in result.out
    assert "written: l_bands.h5 and p_0000.PNG and p_0001.PNG" in result.out
    for name in ("p_0000.PNG", "p_0001.PNG"):
        assert Path(name).read_bytes()[:4] == b"\x89PNG"
    found = run("bands", "l.h5", "--path", "GXM", "--points", "5", "-o", "o.h5", "--json")
    entries = json.loads(found.out)["structures"]
    assert [entry["path"] for entry in entries] == ["GXM", "GXM"]
    assert found.err == ""


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["no.h5"], "no.h5: expected a file of `deeph-zero label`, there is none; check the path"),
        (["empty"], "empty: expected a file of `deeph-zero label`, or a run folder with a model"),
        (["killed"], "killed: expected a run with predictions.h5, which is written at its end; go"),
        (["s.xyz"], "s.xyz: expected a file with real-space blocks (HDF5), got another; run "),
        (["l.h5", "--kmesh", "2", "2", "1"], "--kmesh: expected MODEL STRUCTURES with it, got fil"),
        (["l.h5", "--width", "0.1"], "--width: expected --dos with it, got none; add it, or leave"),
        (["l.h5", "--dos-spacing", "0.1"], "--dos-spacing: expected --dos with it"),
        (["l.h5", "--plot", "p.svg"], "--plot: expected a name that ends with .png, got 'p.svg'"),
        (["l.h5", "--plot", "taken.png"], "--plot: taken.png is there already; choose another"),
        (["l.h5", "--plot", "many.png"], "--plot: many_0001.png is there already; choose another"),
        (["l.h5", "--plot", "no/p.png"], "--plot: expected a folder no, there is none; make it"),
        (["l.h5", "-o", "l.h5", "--overwrite"], "-o l.h5: this is an input of the same command"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(run, words, line):
    before = sorted(Path.cwd().iterdir())
    result = run("bands", *words)
    assert result.code == 2
    assert result.err.startswith(f"error: {line}")
    assert result.err.count("\n") == 1
    assert sorted(Path.cwd().iterdir()) == before
    assert Path("taken.png").read_bytes() == Path("many_0001.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("names", "model"),
    [
        (("run", "a.cif"), "run"),
        (("run/model.safetensors", "a.cif"), "run/model.safetensors"),
        (("run",), None),
        (("l.h5", "run"), None),
        (("empty", "a.cif"), None),
    ],
)
def test_a_model_is_one_where_structures_stand_behind_it(place, names, model):
    (place / "run").mkdir()
    (place / "run/model.safetensors").touch()
    assert bands._model_of(names) == model


def test_a_run_alone_stands_for_its_predictions(place):
    run = place / "run"
    run.mkdir()
    assert bands._predictions_of(str(run)) == str(run), "which has none"
    (run / "predictions.h5").touch()
    for name in (run, run / "model.safetensors"):
        assert bands._predictions_of(str(name)) == str(run / "predictions.h5")
    assert bands._predictions_of("l.h5") == "l.h5"


def test_a_line_for_each_crystal():
    plain = {"file": "a/b.h5", "frame": 3, "path": "GX", "fermi": 0.25, "metal": False}
    head, rows = bands._rows(
        [
            plain | {"vbm": 0.2, "cbm": 0.3, "gap": 0.1, "direct": True},
            plain | {"vbm": 0.2, "cbm": 0.3, "gap": 0.1, "direct": False},
            plain | {"vbm": None, "cbm": None, "gap": None, "direct": None, "metal": True},
            plain | {"fermi": None, "vbm": None, "cbm": None, "gap": None, "direct": None},
            plain | {"vbm": 0.3, "cbm": 0.2, "gap": 0.0, "direct": None},
        ]
    )
    assert all(len(row) == len(head) for row in rows)
    assert rows[0] == ["b.h5:3", "GX", "0.25000", "0.20000", "0.30000", "0.10000", "direct"]
    assert [row[-1] for row in rows] == ["direct", "indirect", "metal", "-", "spins overlap"]
    assert rows[3][2:6] == ["-"] * 4
