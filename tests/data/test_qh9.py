"""QH9's database: written, read row by row, and what a damaged row or disk says."""

import contextlib
import errno
import sqlite3

import numpy as np
import pytest

from deeph_zero.data.qh9 import Matrices, Writer, is_qh9, qh9_frames, refusals
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError

NUMBERS = [np.array([8, 1, 1]), np.array([2])]
RNG = np.random.default_rng(0)
POSITIONS = [RNG.normal(size=(3, 3)), RNG.normal(size=(1, 3))]
FOCKS = [a + a.T for a in (RNG.normal(size=(7, 7)), RNG.normal(size=(1, 1)))]


@pytest.fixture
def database(tmp_path):
    writer = Writer(tmp_path / "a.db")
    for row in zip(NUMBERS, POSITIONS, FOCKS, strict=True):
        writer.add(*row)
    writer.close()
    return tmp_path / "a.db"


def execute(path, query, *values):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(query, values)
        connection.commit()


def test_molecules_there_and_back(database):
    assert is_qh9(database)
    frames = list(qh9_frames(database))
    found = Matrices(database)
    assert len(found) == 2
    for k, (numbers, positions, fock) in enumerate(zip(NUMBERS, POSITIONS, FOCKS, strict=True)):
        assert frames[k].numbers.tolist() == numbers.tolist()
        np.testing.assert_array_equal(frames[k].positions, positions)
        assert frames[k].info == {"charge": 0, "spin": 0}
        name, z, xyz = found.geometry(k)
        assert (name, z.tolist()) == (str(k), numbers.tolist())
        np.testing.assert_array_equal(xyz, positions)
        name, matrix = found.read(k, len(fock))
        np.testing.assert_array_equal(matrix, fock)
        assert name == str(k)


def test_several_geometries_of_a_molecule_have_two_names(database):
    execute(database, "ALTER TABLE data ADD COLUMN geo_id INTEGER")
    execute(database, "UPDATE data SET geo_id = 5 + id")
    assert [Matrices(database).geometry(k)[0] for k in (0, 1)] == ["0/5", "1/6"]


def test_rows_go_by_their_place_and_not_their_id(database):
    execute(database, "DELETE FROM data WHERE id = 0")
    (frame,) = qh9_frames(database)
    assert frame.numbers.tolist() == [2]
    assert Matrices(database).read(0, 1)[0] == "1"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("N", 4, "expected 16 bytes of Z and 96 of pos for N = 4, got 12 and 72"),
        ("N", None, "for N = None, got 12 and 72"),
        ("Z", None, "for N = 3, got no and 72; leave the row out"),
        ("pos", b"12", "for N = 3, got 12 and 2"),
        ("pos", "text", "got 12 and no"),
    ],
)
def test_a_damaged_geometry_costs_itself_only(database, column, value, words):
    execute(database, f"UPDATE data SET {column} = ? WHERE id = 0", value)
    bad, good = qh9_frames(database)
    assert isinstance(bad, InputError)
    assert words in str(bad)
    assert good.numbers.tolist() == [2]
    with pytest.raises(InputError):
        Matrices(database).geometry(0)


@pytest.mark.parametrize(
    ("ham", "words"),
    [
        (np.eye(6), r"expected a Fock matrix of 7 functions, got 36 numbers \(6 functions\)"),
        (None, r"got 0 numbers \(0 functions\); give the basis it is in"),
        (np.full((7, 7), np.nan), "expected a finite, symmetric Fock matrix"),
        (np.triu(np.ones((7, 7))), "expected a finite, symmetric Fock matrix"),
    ],
)
def test_a_damaged_matrix(database, ham, words):
    value = None if ham is None else ham.tobytes()
    execute(database, "UPDATE data SET Ham = ? WHERE id = 0", value)
    with pytest.raises(InputError, match=words):
        Matrices(database).read(0, 7)


def test_rounding_of_a_matrix_is_taken_away(database):
    rough = FOCKS[0].copy()
    rough[0, 1] += 1e-7
    execute(database, "UPDATE data SET Ham = ? WHERE id = 0", rough.tobytes())
    _, found = Matrices(database).read(0, 7)
    np.testing.assert_array_equal(found, found.T)
    assert found[0, 1] == pytest.approx(FOCKS[0][0, 1] + 5e-8, abs=1e-14)


def test_other_files_are_none(tmp_path, database):
    (tmp_path / "text.db").write_text("no database" * 100)
    execute(tmp_path / "other.db", "CREATE TABLE systems (id INTEGER)")
    execute(tmp_path / "fewer.db", "CREATE TABLE data (N INTEGER, Z BLOB, pos BLOB)")
    cases = {
        "none": "there is no such file", "text": "SQLite cannot read it",
        "other": "it has no table data", "fewer": "the table data has no column Ham",
    }  # fmt: skip
    for name, words in cases.items():
        path = tmp_path / f"{name}.db"
        assert not is_qh9(path)
        with pytest.raises(WholeFileError, match=words):
            list(qh9_frames(path))
    execute(database, "DELETE FROM data")
    with pytest.raises(WholeFileError, match="expected molecules, the table data is empty"):
        list(qh9_frames(database))


def test_what_a_disk_says_is_the_systems():
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    other = sqlite3.OperationalError("disk I/O error")
    other.sqlite_errorcode = sqlite3.SQLITE_IOERR
    for error, number in ((full, errno.ENOSPC), (other, None)):
        with pytest.raises(OSError, match=r"disk|space") as caught, refusals():
            raise error
        assert caught.value.errno == number
    assert "disk I/O error" in str(caught.value)


def test_a_full_disk_while_writing(tmp_path):
    writer = Writer(tmp_path / "a.db")
    writer._connection.execute("PRAGMA max_page_count = 4")
    with pytest.raises(OSError, match="No space left"):
        writer.add(np.ones(99), np.zeros((99, 3)), np.zeros((99, 99)))
    writer.close()
