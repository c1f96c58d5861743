"""Two files of matrices in functions that nobody has to know."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.labels import LabelsSink
from deeph_zero.data.formats.protocol import Matrices, Record, Structure
from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.jobs import matrix_errors
from deeph_zero.jobs.matrix_errors import compared

LATTICE = np.diag([5.0, 12.0, 12.0])


def crystal(*, mu=0.0, off=0.0, numbers=(6, 7), far=True):
    """A chain of an s and a p atom; ``off`` on the blocks between two nitrogens."""
    rng = np.random.default_rng(3)
    sizes, keys, blocks, overlaps = (1, 3), [], [], []
    for cell in (0, 1, -1) if far else (0,):
        for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
            keys.append(((i, j), (cell, 0, 0)))
            shape = sizes[i], sizes[j]
            own = np.eye(sizes[i]) if (i, cell) == (j, 0) else np.zeros(shape)
            blocks.append(torch.from_numpy(rng.normal(size=shape)))
            overlaps.append(torch.from_numpy(own + 0.05 * rng.normal(size=shape)))
    pairs = torch.tensor([key[0] for key in keys])
    cells = torch.tensor([key[1] for key in keys])
    overlap = BlockMatrix.from_blocks(pairs, cells, overlaps, sizes).hermitian()
    fock = BlockMatrix.from_blocks(pairs, cells, blocks, sizes).hermitian()
    nitrogen = fock.pairs.eq(1).all(1)[fock.pattern.block_of]
    values = fock.values + mu * overlap.values + off * nitrogen
    structure = Structure(
        numbers=np.array(numbers),
        coords=np.array([[0.0, 0, 0], [2.1, 0.3, 0]]),
        lattice=LATTICE,
        pbc=np.array([True, False, False]),
    )
    matrices = Matrices(
        shells=((0,), (1,)),
        fock=fock.with_values(values),
        overlap=overlap,
        facts={"fermi": 0.2},
    )
    return Record(structure, matrices)


def test_a_constant_potential_is_no_difference():
    found = compared(crystal(mu=0.3), crystal())
    assert found["shift"] == pytest.approx(0.3)
    assert found["fock"]["max"] > 0.25
    for name in ("aligned", "overlap", "levels"):
        assert found[name]["max"] < 1e-12
    assert (found["blocks"], found["missing"]) == (12, 0)


def test_what_differs_is_found_where_it_is():
    found = compared(crystal(off=0.01), crystal())
    nitrogen = {"mae": pytest.approx(0.01)}
    assert found["fock"]["elements"] == {
        "C on site": {"mae": 0}, "C-C": {"mae": 0}, "C-N": {"mae": 0},
        "N on site": nitrogen, "N-N": nitrogen,
    }  # fmt: skip
    assert found["fock"]["mae"] == pytest.approx(0.01 * 27 / 48)
    # H is that of the other and 0.01 of a matrix of ones: one level of N moves, by up to 0.03
    assert 0.01 < found["levels"]["max"] < 0.1


def test_blocks_of_one_file_are_zero_in_the_other():
    near = crystal(far=False)
    whole = crystal()
    found = compared(near, whole)
    assert found["missing"] == 8
    gone = whole.matrices.fock.cells.any(1)[whole.matrices.fock.pattern.block_of]
    missing = whole.matrices.fock.values[gone].abs().max()
    assert found["fock"]["max"] >= float(missing) > 0.5


def test_two_spins_are_compared_with_one():
    one = crystal()
    fock = one.matrices.fock
    spins = fock.with_values(torch.stack([fock.values, fock.values + 0.02]))
    other = dataclasses.replace(one, matrices=dataclasses.replace(one.matrices, fock=spins))
    assert compared(other, one)["fock"]["mae"] == pytest.approx(0.01)


def written(path, *records):
    with PredictionWriter(path) as writer:
        for record in records:
            LabelsSink(writer, "test").write(record)
    return str(path)


def test_the_command_says_what_it_compares(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = written(tmp_path / "a.h5", crystal(mu=0.3), crystal(numbers=(6, 8)))
    theirs = written(tmp_path / "b.h5", crystal(), crystal())
    assert entry_point(["evaluate", ours, theirs]) == 1
    seen = capsys.readouterr()
    assert "frame 1: expected the atoms of a crystal C N as in the other file, got" in seen.err
    found = json.loads((tmp_path / "b_eval.json").read_text())
    assert found["errors"]["aligned"]["mae"]["max"] < 1e-12
    assert [entry["frame"] for entry in found["failed"]] == [1]
    one = written(tmp_path / "c.h5", crystal())
    for words, message in (
        ([ours, one], "expected 2 structures as in"),
        ([one, theirs, one], "expected one file to compare these matrices with"),
        ([one, one, "--no-scf"], "no option of a model, got --scf"),
    ):
        assert entry_point(["evaluate", *words, "--overwrite", "-o", "o.json"]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert message in line


@pytest.mark.parametrize(("at", "code"), [(1, 130), (2, 0)])
def test_ctrl_c_ends_behind_the_structure_and_not_where_it_is_the_last(
    tmp_path, monkeypatch, ctrl_c_in, at, code
):
    monkeypatch.chdir(tmp_path)
    ours = written(tmp_path / "a.h5", crystal(mu=0.3), crystal())
    with ctrl_c_in(matrix_errors, "compared", at):
        assert entry_point(["evaluate", ours, ours, "-o", "o.json"]) == code
    assert json.loads((tmp_path / "o.json").read_text())["n_structures"] == at
