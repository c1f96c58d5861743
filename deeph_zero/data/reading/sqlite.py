"""SQLite files of strangers: read only, and plain tables only."""

import contextlib
import sqlite3
import urllib.parse
from pathlib import Path

from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.host.files import regular_file


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing.

    Args:
        path: The file.

    Returns:
        The connection.
    """
    # beside a log of changes that SQLite has yet to merge, the file alone is not the whole data
    pending = any(path.with_name(path.name + end).exists() for end in ("-wal", "-journal"))
    name = f"file:{urllib.parse.quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(name + ("" if pending else "&immutable=1"), uri=True)
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
        InputError: If it is a pipe or a device.
        WholeFileError: If SQLite cannot read it, or it holds more than plain tables: a view or a
            generated column may never end, a trigger or a virtual table can do more than hold data.
    """
    regular_file(path)
    try:
        with contextlib.closing(connect_read_only(path)) as connection:
            rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
            for kind, name, sql in rows:
                _check_plain(kind, str(name), sql)
            names = {str(name) for kind, name, _ in rows if kind == "table"}
            for name in names:
                _check_columns(connection, name)
            return names
    except sqlite3.Error as error:
        raise WholeFileError(
            f"expected a database, SQLite cannot read it ({str(error).splitlines()[0][:80]}); "
            f"check that {path.name} is whole"
        ) from None


def _check_plain(kind: str, name: str, sql: object) -> None:
    virtual = kind == "table" and "VIRTUAL" in str(sql).upper().split("(")[0].split()[:2]
    if kind not in ("table", "index") or virtual:
        what = "virtual table" if virtual else kind
        raise WholeFileError(
            f"expected plain tables, got the {what} {name[:40]!r}, which is not executed; copy its "
            "rows into a table, or write the structures as .xyz"
        )


def _check_columns(connection: sqlite3.Connection, name: str) -> None:
    columns = connection.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", (name,))
    computed = [str(column) for column, hidden in columns if hidden]
    if computed:
        raise WholeFileError(
            f"expected columns of data, got the generated column {computed[0][:40]!r} in table "
            f"{name[:40]!r}; copy its values into a plain column"
        )
