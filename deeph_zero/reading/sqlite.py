"""SQLite files of strangers: read only, and plain tables only."""

import contextlib
import sqlite3
import urllib.parse
from pathlib import Path

from deeph_zero.reading.content import WholeFileError


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing.

    Args:
        path: The file.

    Returns:
        The connection.
    """
    name = f"file:{urllib.parse.quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(name, uri=True)
    # functions of a file's own schema are not to be trusted
    with contextlib.suppress(sqlite3.Error):
        connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def tables_of(path: Path) -> set[str]:
    """Names of the tables of an SQLite file.

    Args:
        path: The file.

    Returns:
        Their names.

    Raises:
        WholeFileError: If SQLite cannot read it, or it computes what it shows (a view may never
            end).
    """
    try:
        with contextlib.closing(connect_read_only(path)) as connection:
            rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    except sqlite3.Error as error:
        raise WholeFileError(
            f"expected a database, SQLite cannot read it ({error}); check that {path.name} is whole"
        ) from None
    for kind, table, sql in rows:
        words = sql.lower() if isinstance(sql, str) else ""
        if kind == "view" or "virtual table" in words or " as (" in words.replace("as(", "as ("):
            raise WholeFileError(
                f"expected a database of plain tables, {str(table)[:40]!r} is computed from "
                "others; write the structures as .xyz"
            )
    return {str(table) for kind, table, _ in rows if kind == "table"}
