"""The command ``convert``: from blocks to blocks, options without use, a limit that ends."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.data.formats.labels import LabelsSink, LabelsSource
from deeph_zero.data.formats.protocol import Matrices, Record, Structure, read_record
from deeph_zero.host.hdf5 import PredictionWriter


@pytest.fixture
def place(tmp_path, monkeypatch):
    """``a.h5``, two sheets of one s function in a numerical basis."""
    monkeypatch.chdir(tmp_path)
    cells = torch.tensor([[0, 0, 0], [1, 0, 0], [-1, 0, 0]])
    pairs = torch.zeros(3, 2, dtype=torch.long)
    structure = Structure(
        numbers=np.array([79]), coords=np.zeros((1, 3)), lattice=np.diag([5.0, 6.0, 20.0]),
        pbc=np.array([True, True, False]),
    )  # fmt: skip
    with PredictionWriter(Path("a.h5")) as writer:
        sink = LabelsSink(writer, "hsx")
        for k in range(2):
            hop = torch.tensor([-0.4 - k, 0.05, 0.05], dtype=torch.float64)
            unit = torch.tensor([1.0, 0.02, 0.02], dtype=torch.float64)
            matrices = Matrices(
                shells=((0,),), fock=BlockMatrix.packed(pairs, cells, hop, (1,)),
                overlap=BlockMatrix.packed(pairs, cells, unit, (1,)), facts={"fermi": -0.35},
            )  # fmt: skip
            sink.write(Record(structure, matrices))
    return tmp_path


@pytest.mark.usefixtures("place")
def test_blocks_go_through_a_folder_and_come_back(run):
    result = run("convert", "a.h5", "d", "--to", "deeph")
    assert result.code == 0, result.err
    assert result.out == "written: d (2 structures)\n"
    assert run("convert", "d", "b.h5", "--json", "--first", "1").code == 0
    assert run("convert", "d", "c.h5", "-q").code == 0

    def matrices(name):
        source = LabelsSource(Path(name), lambda _numbers, _basis: ((0,),))
        return [read_record(source, k).matrices for k in range(len(source))]

    one, two, first = map(matrices, ("a.h5", "c.h5", "b.h5"))
    assert (len(one), len(two), len(first)) == (2, 2, 1)
    for before, after in zip([*one, one[0]], [*two, first[0]], strict=True):
        k = torch.tensor([[0.1, 0.2, 0.0]], dtype=torch.float64)
        assert torch.allclose(before.fock.at_k(k), after.fock.at_k(k), atol=1e-10)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["none", "b.h5"], "none: "),
        (["a.h5", "b.xyz"], "b.xyz: "),
        (["a.h5", "a.h5", "--overwrite"], "B a.h5: this is an input of the same command"),
        (["a.h5", "d", "--to", "deeph", "--xc", "pbe"], "--xc: expected matrices of a Gaussian"),
        (["a.h5", "d", "--to", "deeph", "--grid-level", "1"], "--grid-level: expected matrices of"),
        (["a.h5", "d", "--to", "deeph", "--workers", "2"], "--workers: expected matrices of a Gau"),
        (["a.h5", "d", "--to", "deeph", "--agreement", "1"], "--agreement: expected matrices of a"),
        (["a.h5", "d", "--to", "deeph", "--resume"], "--resume: expected matrices of a Gaussian"),
        (["a.h5", "d", "--to", "deeph", "--mesh", "9", "9", "9"], "--mesh: expected the cube of a"),
        (["a.h5", "d", "--to", "depeh"], "--to: expected one of labels, deeph"),
        (["a.h5", "d", "--first", "0"], "--first: expected a whole number from 1 up, got '0'"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(run, words, line):
    result = run("convert", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {line}")
    assert result.err.count("\n") == 1
    assert [p.name for p in Path.cwd().iterdir()] == ["a.h5"]


@pytest.mark.usefixtures("place")
def test_a_limit_that_ends_says_how_far_it_came(run):
    result = run("convert", "a.h5", "d", "--to", "deeph", "--max-time", "1e-9")
    assert result.code == 1
    assert "the time limit ended after 1 structure; what is done is in" in result.err
    assert result.err.rstrip().endswith("allow more --max-time")


@pytest.mark.usefixtures("place")
def test_a_basis_that_nothing_asks_for_is_one_line_of_warning(run):
    result = run("convert", "a.h5", "d", "--to", "deeph", "--basis", "sto-3g")
    assert result.code == 0
    assert result.err.count("--basis: expected Gaussians of a file that does not name them") == 1


@pytest.mark.usefixtures("place")
def test_json_says_what_was_written(run):
    told = json.loads(run("convert", "a.h5", "b.h5", "--to", "labels", "--json").out)
    assert told == json.loads(json.dumps(told, allow_nan=False))
    assert "2" in json.dumps(told)
