"""Rows of a stranger's table, and numbers in its blobs."""

import contextlib
import sqlite3

import numpy as np
import pytest

from deeph_zero.data.formats.sqlite_rows import Rows, columns_of, numbers_in
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "a.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE data (id INTEGER PRIMARY KEY, R BLOB, E FLOAT)")
        db.executemany(
            "INSERT INTO data VALUES (?, ?, ?)", [(9, b"nine", -1.5), (4, b"four", None)]
        )
        db.commit()
    return path


def test_rows_in_the_order_of_their_ids(database):
    rows = Rows(database, "data", ("id", "R"))
    assert len(rows) == 2
    assert rows.tables == {"data"}
    assert rows.columns == ["id", "R", "E"]
    assert rows.row(0, ("id", "R", "E")) == {"id": 4, "R": b"four", "E": None}
    assert rows.row(1, ("E", "Z", "R")) == {"E": -1.5, "Z": None, "R": b"nine"}
    assert rows.select("SELECT R FROM data WHERE id > ?", (4,)) == [(b"nine",)]


def test_columns_of_a_table(database):
    assert columns_of(database, "data") == ["id", "R", "E"]
    assert columns_of(database, "others") == []
    database.write_bytes(database.read_bytes()[:100] + b"x" * 5000)
    with pytest.raises(
        WholeFileError, match=r"SQLite cannot read it .*; check that a\.db is whole"
    ):
        columns_of(database, "data")


def test_other_databases_are_refused(tmp_path, database):
    with pytest.raises(WholeFileError, match="expected a table data with id, Z, it has no Z"):
        Rows(database, "data", ("id", "Z"))
    with pytest.raises(WholeFileError, match="expected a table systems with id, it has no id"):
        Rows(database, "systems", ("id",))
    with pytest.raises(WholeFileError, match="expected a database, there is no such file"):
        Rows(tmp_path / "none.db", "data", ())


def test_a_database_that_is_damaged_later(database):
    rows = Rows(database, "data", ("id",))
    database.write_bytes(b"no database at all" * 100)
    with pytest.raises(WholeFileError, match=r"check that a\.db is whole"):
        rows.row(0, ("id",))


@pytest.mark.parametrize("kind", ["<f4", "<f8"])
def test_numbers_of_either_precision(kind):
    values = np.array([[0.5, -1.25, 3.0], [2.0, 0.0, 1e10]])
    found = numbers_in(values.astype(kind).tobytes(), "R", (2, 3))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (None, r"expected R of shape \(2, 3\) in single or double precision, got none"),
        ("text", "got none; leave the row out, or give the basis it is in"),
        (b"123", "got 3 bytes"),
        (np.zeros(5).tobytes(), "got 40 bytes"),
        (np.full(6, np.nan, "<f4").tobytes(), "expected finite R, got NaN or infinity"),
        (np.full(6, np.inf, "<f8").tobytes(), "expected finite R"),
    ],
)
def test_other_blobs_are_refused(blob, message):
    with pytest.raises(InputError, match=message):
        numbers_in(blob, "R", (2, 3))
