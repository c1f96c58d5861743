"""SchNOrb's ASE databases: made as its own code makes them, read and written."""

import base64
import dataclasses
import sqlite3

import ase.db
import numpy as np
import pytest
import torch

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.protocol import Record, permuted, read_record
from deeph_zero.data.formats.registry import recognise
from deeph_zero.data.formats.schnorb import SchNOrbSink, SchNOrbSource
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError

from .conftest import COMMON, SHELLS, assert_labels, assert_same, in_order, there_and_back

BOHR = 0.52917721092


def schnorb(path, mf, kind="float32"):
    data = {}
    for name, matrix in (("hamiltonian", mf.get_fock()), ("overlap", mf.get_ovlp())):
        array = in_order(mf.mol, matrix).astype(kind)
        data[name] = base64.b64encode(array.tobytes()).decode()
        data |= {f"_shape_{name}": list(array.shape), f"_dtype_{name}": kind}
    table = np.zeros((9, 14, 5), dtype=int)
    for z, ls in {1: (0, 0, 1), 8: (0, 0, 0, 1, 1, 2)}.items():
        rows = [(0, 1, l, 0) for l in ls for _ in range(2 * l + 1)]
        table[z, : len(rows), 1:] = rows
    with ase.db.connect(path) as db:
        db.metadata = {"basisdef": table.tolist()}
        db.write(ase.Atoms("OH2", mf.mol.atom_coords() * BOHR), data=data)
    return path


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_labels_are_pyscfs_numbers(tmp_path, water_scf, kind):
    path = schnorb(tmp_path / "a.db", water_scf, kind)
    assert recognise(path) == "schnorb"
    assert_labels(path, water_scf)


def test_there_and_back(tmp_path, water_scf):
    path = schnorb(tmp_path / "a.db", water_scf)
    copy = there_and_back(path, "schnorb", SchNOrbSource)
    row = ase.db.connect(copy).get(id=1)
    assert row.data["_shape_hamiltonian"] == [24, 24]
    table = np.array(ase.db.connect(copy).metadata["basisdef"])
    assert table[8, 9:14, 2:].tolist() == [[3, 2, m] for m in (0, 1, -1, 2, -2)]


@pytest.mark.parametrize("text", ["{}", "not base64!"])
def test_a_damaged_row_of_ase(tmp_path, water_scf, capsys, text):
    path = tmp_path / "a.db"
    schnorb(path, water_scf)
    with ase.db.connect(path) as db:
        db.update(1, data={"hamiltonian": text})
    assert entry_point(["convert", str(path), str(tmp_path / "b.h5"), *COMMON]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "a.db frame 0: expected hamiltonian in base64" in line


# ---- without an SCF ---------------------------------------------------------------------------


def shells_of(numbers, basis):
    assert basis == "made"
    return tuple(SHELLS[int(z)] for z in numbers)


def sunk(path, molecule):
    sink = SchNOrbSink(path)
    sink.write(molecule)
    sink.close()
    return path


def test_what_is_written_is_read(tmp_path, molecule):
    facts = {"energy": -1.5}
    record = Record(molecule.structure, dataclasses.replace(molecule.matrices, facts=facts))
    path = sunk(tmp_path / "a.db", record)
    source = SchNOrbSource(path, lambda *_: pytest.fail("the file says its shells"), "made")
    assert (len(source), source.place(0)) == (1, f"{path} frame 0")
    assert_same(molecule, read_record(source, 0))
    assert float(ase.db.connect(path).get(id=1).data["_shape_energy"][0]) == 1


def test_elements_the_file_says_nothing_of_are_looked_up(tmp_path, molecule):
    path = sunk(tmp_path / "a.db", molecule)
    wanted = SchNOrbSource(path, shells_of, "made").matrices(0)
    for table in ([], "text", [[1, 2]], np.zeros((7, 24, 5)).tolist(), [[[0, 1, 1, 1, 0]]] * 7):
        with ase.db.connect(path) as db:
            db.metadata = {"basisdef": table}
        found = SchNOrbSource(path, shells_of, "made").matrices(0)
        assert found.shells == wanted.shells
        assert torch.equal(found.fock.values, wanted.fock.values)


DAMAGE = {
    "kind": ({"_dtype_hamiltonian": "int32"}, "expected hamiltonian of real numbers, got 'int32'"),
    "shape": ({"hamiltonian": "AAAAAAAAAAA="}, "expected hamiltonian of 24 functions, got 1 numbe"),
    "odd": ({"hamiltonian": "AAAA"}, "expected hamiltonian of 24 functions, got 0 numbers"),
    "text": ({"hamiltonian": "not base64!"}, "expected hamiltonian in base64, got another text"),
    "none": ({"hamiltonian": 3}, "expected hamiltonian of 24 functions, got 0 numbers"),
    "overlap": ({"overlap": "AAAA"}, "expected overlap of 24 functions, got 0 numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_matrices(tmp_path, molecule, case):
    changes, words = DAMAGE[case]
    path = sunk(tmp_path / "a.db", molecule)
    with ase.db.connect(path) as db:
        db.update(1, data=changes)
    with pytest.raises(InputError, match=words):
        SchNOrbSource(path, shells_of, "made").matrices(0)


def test_arrays_of_ase_are_read_too(tmp_path, molecule):
    path = sunk(tmp_path / "a.db", molecule)
    wanted = SchNOrbSource(path, shells_of, "made").matrices(0).fock.to_dense().numpy()
    with ase.db.connect(path) as db:
        db.update(1, data={"hamiltonian": 2 * wanted})
    found = SchNOrbSource(path, shells_of, "made").matrices(0)
    np.testing.assert_allclose(found.fock.to_dense(), 2 * wanted, atol=1e-14)


def test_damaged_rows_and_other_databases(tmp_path, molecule):
    path = sunk(tmp_path / "a.db", molecule)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE systems SET positions = ?", (np.full((3, 3), np.nan).tobytes(),))
    db.close()
    with pytest.raises(InputError, match="expected atoms at finite positions, got others"):
        SchNOrbSource(path, shells_of, "made").structure(0)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE systems SET numbers = ?", (b"x",))
    db.close()
    with pytest.raises(InputError, match="expected a row of ASE"):
        SchNOrbSource(path, shells_of, "made").structure(0)
    with sqlite3.connect(tmp_path / "b.db") as db:
        db.execute("CREATE TABLE other (id INTEGER)")
    db.close()
    with pytest.raises(
        WholeFileError, match="expected a table systems with id, numbers, positions"
    ):
        SchNOrbSource(tmp_path / "b.db", shells_of, "made")


def test_what_the_layout_cannot_hold(tmp_path, molecule, crystal):
    sink = SchNOrbSink(tmp_path / "a.db")
    without = Record(molecule.structure, dataclasses.replace(molecule.matrices, overlap=None))
    other = permuted(molecule, [1, 0, 2])
    swapped = Record(molecule.structure, other.matrices)
    sink.write(molecule)
    for record, words in (
        (crystal, "the layout of SchNOrb holds no other"),
        (without, "expected an overlap beside H"),
        (swapped, "expected one basis per element, got two of element 6"),
    ):
        with pytest.raises(InputError, match=words):
            sink.write(record)
    sink.close()
    assert len(SchNOrbSource(tmp_path / "a.db", shells_of, "made")) == 1
