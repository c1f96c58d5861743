"""Databases of strangers: plain tables only, and nothing is changed."""

import contextlib
import os
import sqlite3

import pytest

from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.sqlite import connect_read_only, tables_of
from deeph_zero.data.structures import read_structures
from deeph_zero.errors import InputError


def database(path, *statements):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path


TABLE = "CREATE TABLE data (id INTEGER, value FLOAT)"


def test_names_of_plain_tables(tmp_path):
    index = "CREATE INDEX by_id ON data (id)"
    path = database(tmp_path / "a b?#.db", TABLE, "CREATE TABLE more (x)", index)
    assert tables_of(path) == {"data", "more"}


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE VIEW v AS SELECT id FROM data", "expected plain tables, got the view 'v', which"),
        (
            "CREATE TRIGGER t AFTER INSERT ON data BEGIN DELETE FROM data; END",
            "got the trigger 't', which is not executed",
        ),
        ("CREATE VIRTUAL TABLE s USING fts5(x)", "got the virtual table 's'"),
        (
            "CREATE TABLE g (a INTEGER, b INTEGER GENERATED ALWAYS AS (a + 1) VIRTUAL)",
            "got the generated column 'b' in table 'g'; copy its values into a plain column",
        ),
    ],
)
def test_what_computes_is_refused(tmp_path, statement, words):
    path = database(tmp_path / "a.db", TABLE, statement)
    with pytest.raises(WholeFileError, match=words):
        tables_of(path)


def test_a_view_without_end_is_no_structure_file(tmp_path):
    path = database(
        tmp_path / "a.db",
        "CREATE VIEW data AS WITH RECURSIVE c(N) AS (SELECT 1 UNION ALL SELECT N + 1 FROM c) "
        "SELECT N, N AS Z, N AS pos, N AS Ham FROM c",
    )
    molecules, bad = read_structures([path])
    assert molecules == []
    assert "plain tables" in str(bad[0])


def test_other_files_are_none(tmp_path):
    (tmp_path / "a.db").write_bytes(b"no database " * 100)
    with pytest.raises(
        WholeFileError, match=r"SQLite cannot read it .*; check that a\.db is whole"
    ):
        tables_of(tmp_path / "a.db")
    os.mkfifo(tmp_path / "pipe.db")
    with pytest.raises(InputError, match="named pipe"):
        tables_of(tmp_path / "pipe.db")


def test_nothing_is_changed(tmp_path):
    path = database(tmp_path / "a.db", TABLE, "INSERT INTO data VALUES (1, 2.5)")
    content = path.read_bytes()
    with contextlib.closing(connect_read_only(path)) as connection:
        assert connection.execute("SELECT * FROM data").fetchall() == [(1, 2.5)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("INSERT INTO data VALUES (2, 3.5)")
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["a.db"]


def test_what_stands_in_the_log_is_read_too(tmp_path):
    """Beside a log of changes that are not merged the file alone is not the whole data."""
    path = database(tmp_path / "a.db", "PRAGMA journal_mode = WAL", TABLE)
    with contextlib.closing(sqlite3.connect(path)) as writer:
        writer.execute("INSERT INTO data VALUES (1, 2.5)")
        writer.commit()
        assert (tmp_path / "a.db-wal").stat().st_size > 0
        with contextlib.closing(connect_read_only(path)) as connection:
            assert connection.execute("SELECT id FROM data").fetchall() == [(1,)]
