"""The QH9 database layout: geometries and Fock matrices of neutral closed shells in SQLite.

One table ``data`` with a row per molecule: ``id`` (and ``geo_id`` where a molecule has several
geometries), ``N`` atoms, ``Z`` (int32), ``pos`` (float64, ångström, [N, 3]) and ``Ham`` (float64,
Eh, [nao, nao]), the last three as plain bytes. Nothing says how the AOs are ordered, nor which
functional was used: that is found out by :mod:`deeph_zero.jobs.convert`.

References:
    Yu et al., QH9: A Quantum Hamiltonian Prediction Benchmark for QM9 Molecules, NeurIPS 2023,
    arXiv:2306.09549.
"""

import contextlib
import errno
import math
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase
import numpy as np
from jaxtyping import Float

from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.sqlite import connect_read_only, tables_of
from deeph_zero.errors import InputError, argument

_COLUMNS = ("N", "Z", "pos", "Ham")


def is_qh9(path: Path) -> bool:
    """Whether a ``.db`` file has this layout (ASE's databases end in ``.db`` too)."""
    with contextlib.suppress(WholeFileError), _open(path):
        return True
    return False


def qh9_frames(path: Path) -> Iterator[ase.Atoms | InputError]:
    """Geometries in the order of the file, without the matrices.

    Args:
        path: The database.

    Yields:
        One object per row, charge and spin 0; an error in the place of a damaged row.

    Raises:
        WholeFileError: If it is no such file.
    """
    with _open(path) as connection:
        empty = True
        for number, z, pos in _rows(path, connection, "SELECT N, Z, pos FROM data ORDER BY rowid"):
            empty = False
            try:
                numbers, positions = _geometry(number, z, pos)
                info = {"charge": 0, "spin": 0}
                yield ase.Atoms(numbers=numbers, positions=positions, info=info)
            except InputError as error:
                yield error
        if empty:
            raise WholeFileError("expected molecules, the table data is empty; check the file")


class Matrices:
    """The Fock matrices of a database, one at a time."""

    def __init__(self, path: Path) -> None:
        """Remember where every row is.

        Args:
            path: The database.

        Raises:
            WholeFileError: If it is no such file.
        """
        self._path = path
        with _open(path) as connection:
            rows = _rows(path, connection, "SELECT rowid FROM data ORDER BY rowid")
            self._places = [row[0] for row in rows]

    def __len__(self) -> int:
        """Number of molecules."""
        return len(self._places)

    def geometry(self, frame: int) -> tuple[str, np.ndarray, np.ndarray]:
        """The atoms of a molecule.

        Args:
            frame: Place in the file, from 0.

        Returns:
            Its ``id`` as in :meth:`read`, atomic numbers and positions, ångström.

        Raises:
            InputError: If the row is damaged.
        """
        row = self._row(frame)
        numbers, positions = _geometry(row["N"], row["Z"], row["pos"])
        return _name(row), numbers, positions

    def _row(self, frame: int) -> sqlite3.Row:
        query = "SELECT * FROM data WHERE rowid = ?"
        with _open(self._path) as connection:
            connection.row_factory = sqlite3.Row
            (row,) = _rows(self._path, connection, query, (self._places[frame],))
        return row

    def read(self, frame: int, nao: int) -> tuple[str, Float[np.ndarray, "nao nao"]]:
        """The matrix of a molecule as it is stored.

        Args:
            frame: Place in the file, from 0.
            nao: Number of basis functions it must have.

        Returns:
            Its ``id`` (with a geo_id behind a slash), and the matrix, Eh.

        Raises:
            InputError: If the matrix has another size, is not finite or not symmetric.
        """
        row = self._row(frame)
        return _name(row), _matrix(row["Ham"], nao)


def _name(row: sqlite3.Row) -> str:
    names = [name for name in ("id", "geo_id") if name in row.keys()]  # noqa: SIM118
    return "/".join(str(row[name]) for name in names)


class Writer:
    """Writes a database in this layout, AOs in PySCF's order as in the published files."""

    def __init__(self, path: Path) -> None:
        """Make the table.

        Args:
            path: A file that is not there yet, or an empty one.

        Raises:
            OSError: If the disk refuses.
        """
        self._connection = sqlite3.connect(path)
        self._count = 0
        self._execute("CREATE TABLE data (id INTEGER, N INTEGER, Z BLOB, pos BLOB, Ham BLOB)", ())

    def add(
        self, numbers: np.ndarray, positions: np.ndarray, fock: Float[np.ndarray, "nao nao"]
    ) -> None:
        """Add a molecule.

        Args:
            numbers: Atomic numbers.
            positions: Ångström, [natm, 3].
            fock: Eh.

        Raises:
            OSError: If the disk refuses.
        """
        row = (
            self._count,
            len(numbers),
            np.asarray(numbers, dtype="<i4").tobytes(),
            np.asarray(positions, dtype="<f8").tobytes(),
            np.asarray(fock, dtype="<f8").tobytes(),
        )
        self._execute("INSERT INTO data VALUES (?, ?, ?, ?, ?)", row)
        self._count += 1

    def close(self) -> None:
        """Write what is left and let go of the file.

        Raises:
            OSError: If the disk refuses.
        """
        with contextlib.closing(self._connection), refusals():
            self._connection.commit()

    def _execute(self, query: str, values: tuple[object, ...]) -> None:
        with refusals():
            self._connection.execute(query, values)


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What SQLite says of a disk that refuses becomes what the system would say.

    Yields:
        Nothing.

    Raises:
        OSError: In the place of SQLite's errors.
    """
    try:
        yield
    except sqlite3.Error as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        raise OSError(str(error)) from None


@contextlib.contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """The database, if it has the table and its columns."""
    if not path.is_file():
        raise WholeFileError("expected a QH9 database, there is no such file; check the path")
    tables_of(path)
    with contextlib.closing(connect_read_only(path)) as connection:
        found = [row[1] for row in _rows(path, connection, "PRAGMA table_info(data)")]
        missing = [column for column in _COLUMNS if column not in found]
        if missing:
            what = f"the table data has no column {missing[0]}" if found else "it has no table data"
            raise WholeFileError(
                f"expected a QH9 database, {what}; give QH9Stable.db or one of its layout"
            )
        yield connection


def _rows(
    path: Path, connection: sqlite3.Connection, query: str, values: tuple[int, ...] = ()
) -> Iterator[Any]:
    try:
        yield from connection.execute(query, values)
    except sqlite3.Error as error:
        raise WholeFileError(
            f"expected a QH9 database, SQLite cannot read it ({error}); check that {path.name} is "
            "whole"
        ) from None


def _geometry(number: object, z: object, pos: object) -> tuple[np.ndarray, np.ndarray]:
    """Atomic numbers [N] and positions [N, 3], ångström."""
    natm = number if isinstance(number, int) else -1
    if not (
        isinstance(z, bytes) and isinstance(pos, bytes) and len(z) == 4 * natm == len(pos) // 6
    ):
        sizes = " and ".join(str(len(b)) if isinstance(b, bytes) else "no" for b in (z, pos))
        raise InputError(
            f"expected {4 * natm} bytes of Z and {24 * natm} of pos for N = {number}, got {sizes}; "
            "leave the row out"
        )
    positions = np.frombuffer(pos, dtype="<f8").reshape(-1, 3)
    return np.frombuffer(z, dtype="<i4").astype(np.int64), positions


def _matrix(ham: object, nao: int) -> Float[np.ndarray, "nao nao"]:
    size = len(ham) // 8 if isinstance(ham, bytes) else 0
    if size != nao * nao:
        raise InputError(
            f"expected a Fock matrix of {nao} functions, got {size} numbers "
            f"({math.isqrt(size)} functions); give the {argument('basis')} it is in"
        )
    assert isinstance(ham, bytes)
    matrix = np.frombuffer(ham, dtype="<f8").reshape(nao, nao)
    if not np.isfinite(matrix).all() or np.abs(matrix - matrix.T).max() > 1e-6:
        raise InputError("expected a finite, symmetric Fock matrix, got another; leave the row out")
    return 0.5 * (matrix + matrix.T)
