"""Rows of an SQLite table, one at a time, and the numbers in their blobs."""

import contextlib
import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.sqlite import connect_read_only, tables_of
from deeph_zero.errors import InputError, argument


class Rows:
    """The rows of a table in the order of their row ids."""

    def __init__(self, path: Path, table: str, columns: Sequence[str]) -> None:
        """Remember where every row is.

        Args:
            path: The database.
            table: The table.
            columns: Columns it must have.

        Raises:
            WholeFileError: If it has no such table or column, or cannot be read.
        """
        self._path, self._table = path, table
        if not path.is_file():
            raise WholeFileError("expected a database, there is no such file; check the path")
        self.tables = tables_of(path)
        self.columns = columns_of(path, table)
        missing = [c for c in columns if c not in self.columns]
        if missing:
            raise WholeFileError(
                f"expected a table {table} with {', '.join(columns)}, it has no {missing[0]}; "
                "check that it is a database of this format"
            )
        self._places = [r[0] for r in self.select(f"SELECT rowid FROM {table} ORDER BY rowid")]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._places)

    def row(self, index: int, columns: Sequence[str]) -> dict[str, Any]:
        """Some columns of a row; those that are not there are None.

        Args:
            index: Its position, from 0.
            columns: Which.

        Returns:
            Values by column.
        """
        there = [c for c in columns if c in self.columns]
        query = f"SELECT {', '.join(there)} FROM {self._table} WHERE rowid = ?"
        (found,) = self.select(query, (self._places[index],))
        return dict.fromkeys(columns) | dict(zip(there, found, strict=True))

    def select(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        try:
            with contextlib.closing(connect_read_only(self._path)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise WholeFileError(
                f"expected a database, SQLite cannot read it ({error}); check that "
                f"{self._path.name} is whole"
            ) from None


def columns_of(path: Path, table: str) -> list[str]:
    """Columns of a table, none where there is no such table.

    Args:
        path: The database, plain tables only.
        table: Its name.

    Returns:
        Their names.

    Raises:
        WholeFileError: If SQLite cannot read the file.
    """
    try:
        with contextlib.closing(connect_read_only(path)) as connection:
            return [str(r[1]) for r in connection.execute(f"PRAGMA table_info({table})")]
    except sqlite3.Error as error:
        raise WholeFileError(
            f"expected a database, SQLite cannot read it ({error}); check that {path.name} is whole"
        ) from None


def numbers_in(blob: object, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Real numbers of single or double precision, whichever the size says.

    Args:
        blob: Bytes.
        name: For messages.
        shape: Shape of the array.

    Returns:
        Finite numbers, float64.

    Raises:
        InputError: If the size is another, or a number is not finite.
    """
    count = math.prod(shape)
    size = len(blob) if isinstance(blob, bytes) else -1
    if size not in (4 * count, 8 * count) or not isinstance(blob, bytes):
        got = f"{size} bytes" if size >= 0 else "none"
        raise InputError(
            f"expected {name} of shape {shape} in single or double precision, got {got}; leave the "
            f"row out, or give the {argument('basis')} it is in"
        )
    found = np.frombuffer(blob, "<f4" if size == 4 * count else "<f8").astype(float)
    if not np.isfinite(found).all():
        raise InputError(f"expected finite {name}, got NaN or infinity; leave the row out")
    return found.reshape(shape)
