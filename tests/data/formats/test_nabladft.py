"""nablaDFT and PhiSNet: files made as their own code makes them, read and written."""

import dataclasses
import json
import sqlite3

import numpy as np
import pytest

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.nabladft import NablaSink, NablaSource
from deeph_zero.data.formats.protocol import Record, permuted, read_record
from deeph_zero.data.formats.registry import recognise
from deeph_zero.errors import InputError

from .conftest import COMMON, SHELLS, assert_labels, in_order, there_and_back


def nabla(path, mf, *, own=True, kind="<f4"):
    z = mf.mol.atom_charges().astype("<i4").tobytes()
    blobs = [
        np.asarray(x).astype(kind).tobytes()
        for x in (
            mf.mol.atom_coords(),
            in_order(mf.mol, mf.get_fock()),
            in_order(mf.mol, mf.get_ovlp()),
        )
    ]
    with sqlite3.connect(path) as db:
        columns = "id INTEGER NOT NULL PRIMARY KEY, " + ("Z BLOB, " if own else "")
        db.execute(f"CREATE TABLE data ({columns}R BLOB, E FLOAT, F BLOB, H BLOB, S BLOB, C BLOB)")
        db.execute("CREATE TABLE nuclear_charges (id INTEGER PRIMARY KEY, N INTEGER, Z BLOB)")
        db.execute("CREATE TABLE basisset (Z INTEGER PRIMARY KEY, orbitals BLOB)")
        db.execute("INSERT INTO nuclear_charges VALUES (0, 3, ?)", (z,))
        for number, ls in {1: (0, 0, 1), 8: (0, 0, 0, 1, 1, 2)}.items():
            blob = np.array(ls, dtype="<i4").tobytes()
            db.execute("INSERT INTO basisset VALUES (?, ?)", (number, blob))
        row = {"id": 0, "R": blobs[0], "E": mf.e_tot, "H": blobs[1], "S": blobs[2]}
        row |= {"Z": z} if own else {}
        marks = ", ".join("?" * len(row))
        db.execute(f"INSERT INTO data ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    db.close()
    return path


@pytest.mark.parametrize(("own", "kind"), [(True, "<f4"), (False, "<f8")], ids=["nabla", "phisnet"])
def test_labels_are_pyscfs_numbers(tmp_path, water_scf, own, kind):
    path = nabla(tmp_path / "a.db", water_scf, own=own, kind=kind)
    assert recognise(path) == "nabladft"
    assert_labels(path, water_scf)


def test_there_and_back(tmp_path, water_scf):
    path = nabla(tmp_path / "a.db", water_scf)
    there_and_back(path, "nabladft", NablaSource)


def test_another_basis_is_noticed_by_its_overlap(tmp_path, water_scf, capsys):
    path = nabla(tmp_path / "a.db", water_scf)
    words = ["convert", str(path), str(tmp_path / "b.h5"), *COMMON, "--basis", "6-31g(d,p)"]
    assert entry_point(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert (
        "expected the shells of 6-31g(d,p), got those of another basis set (3s2p1d, 2s1p)" in (line)
        or "expected the overlap of this basis and geometry" in line
    )


def change(path, column, value):
    with sqlite3.connect(path) as db:
        db.execute(f"UPDATE data SET {column} = ?", (value,))
    db.close()


DAMAGE = [
    (lambda p: change(p, "H", b"1234"), "expected H of shape (24, 24) in single or double"),
    (lambda p: change(p, "H", None), "expected H of shape (24, 24)"),
    (lambda p: change(p, "S", np.full(576, np.nan, "<f4").tobytes()), "expected finite S"),
    (lambda p: change(p, "Z", b"12"), "expected Z as atomic numbers"),
    (lambda p: change(p, "R", "text"), "expected Z as atomic numbers"),
    (lambda p: p.write_bytes(p.read_bytes()[:9000]), "SQLite cannot read it"),
]


@pytest.mark.parametrize("case", range(len(DAMAGE)))
def test_damage_is_one_line(tmp_path, water_scf, capsys, case):
    damage, message = DAMAGE[case]
    damage(nabla(tmp_path / "a.db", water_scf))
    assert entry_point(["convert", str(tmp_path / "a.db"), str(tmp_path / "b.h5"), *COMMON]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert [p.name for p in tmp_path.iterdir()] == ["a.db"]


def test_a_model_trains_on_labels_of_another_program(tmp_path, water_scf):
    path = nabla(tmp_path / "a.db", water_scf)
    assert entry_point(["convert", str(path), str(tmp_path / "b.h5"), *COMMON]) == 0
    (tmp_path / "run.toml").write_text(
        f'[data]\ntrain = ["{tmp_path}/b.h5"]\nlabels = ["{tmp_path}/b.h5"]\n'
        '[method]\nbasis = "def2-svp"\nxc = "pbe"\ngrid_level = 0\ndensity_fit = false\n'
        '[training]\nloss = "supervised"\nsteps = 1\n[model]\nsize = "tiny"\n'
    )
    out = tmp_path / "run"
    words = ["train", str(tmp_path / "run.toml"), "-o", str(out), "--threads", "1", "-q"]
    assert entry_point([*words, "--device", "cpu"]) in (0, 1)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["n_structures"] == 1
    (row,) = summary["structures"]
    assert row["energy"] > water_scf.e_tot - 1e-6


# ---- without an SCF ---------------------------------------------------------------------------


def shells_of(numbers, basis):
    assert basis == "made"
    return tuple(SHELLS[int(z)] for z in numbers)


def sunk(path, *records):
    sink = NablaSink(path)
    for record in records:
        sink.write(record)
    sink.close()
    return path


def test_what_is_written_is_read(tmp_path, molecule):
    facts = {"energy": -1.5}
    record = Record(molecule.structure, dataclasses.replace(molecule.matrices, facts=facts))
    path = sunk(tmp_path / "a.db", record, record)
    source = NablaSource(path, lambda *_: pytest.fail("the file says its shells"), "made")
    assert (len(source), source.place(1)) == (2, f"{path} frame 1")
    found = read_record(source, 1)
    # single precision
    np.testing.assert_allclose(found.structure.coords, molecule.structure.coords, atol=1e-6)
    for name in ("fock", "overlap"):
        one, other = (getattr(r.matrices, name).to_dense() for r in (molecule, found))
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert found.matrices.facts == {"basis": "made", "energy": -1.5}
    assert found.structure.name == "1"


def test_elements_the_file_says_nothing_of_are_looked_up(tmp_path, molecule):
    path = sunk(tmp_path / "a.db", molecule)
    wanted = NablaSource(path, shells_of, "made").matrices(0)
    for blob in (
        None,
        b"",
        b"123",
        np.array([-1], "<i4").tobytes(),
        np.array([99], "<i4").tobytes(),
    ):
        with sqlite3.connect(path) as db:
            db.execute("UPDATE basisset SET orbitals = ?", (blob,))
        db.close()
        found = NablaSource(path, shells_of, "made").matrices(0)
        assert found.shells == wanted.shells
        np.testing.assert_array_equal(found.fock.values, wanted.fock.values)


def test_a_row_without_energy_or_overlap(tmp_path, molecule):
    path = sunk(tmp_path / "a.db", molecule)
    change(path, "S", None)
    found = NablaSource(path, shells_of, "made").matrices(0)
    assert found.overlap is None
    assert "energy" not in found.facts


def test_what_the_layout_cannot_hold(tmp_path, molecule, crystal):
    without = Record(molecule.structure, dataclasses.replace(molecule.matrices, overlap=None))
    swapped = Record(molecule.structure, permuted(molecule, [1, 0, 2]).matrices)
    sink = NablaSink(tmp_path / "a.db")
    sink.write(molecule)
    for record, words in (
        (crystal, "the layout of nablaDFT holds no other"),
        (without, "expected an overlap beside H"),
        (swapped, "expected one basis per element, got two of element 6"),
    ):
        with pytest.raises(InputError, match=words):
            sink.write(record)
    sink.close()
    assert len(NablaSource(tmp_path / "a.db", shells_of, "made")) == 1
