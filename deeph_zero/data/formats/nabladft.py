"""nablaDFT's and PhiSNet's SQLite: H, S and geometries of molecules, hartree and bohr.

One table ``data`` with a row per geometry (``R``, ``E``, ``H``, ``S``, ``C`` and in nablaDFT ``Z``,
plain bytes, as a rule in single precision), ``nuclear_charges`` with the Z of all rows where they
have none of their own, ``basisset`` with the l of the shells of each element.

References:
    K. Khrabrov et al., Phys. Chem. Chem. Phys. 24, 25853 (2022); O. Unke et al., NeurIPS 2021,
    arXiv:2106.02347.
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.protocol import (
    Matrices,
    Record,
    Shells,
    Structure,
    check_one_basis,
    closed_shell,
    from_dense,
    in_order,
    required_overlap,
    sizes_of,
)
from deeph_zero.data.formats.registry import ShellsOf
from deeph_zero.data.formats.sqlite_rows import Rows, numbers_in
from deeph_zero.data.qh9 import refusals
from deeph_zero.data.stored_values import HEAVIEST
from deeph_zero.errors import InputError

_UNITS = CONVENTIONS["nabladft"]
_KEY = "id INTEGER NOT NULL PRIMARY KEY"
_TABLES = {
    "dataset_ids": f"{_KEY}, MOSES_ID INT, CONFORMER_ID INT",
    "data": f"{_KEY}, Z BLOB, R BLOB, E FLOAT, F BLOB, H BLOB, S BLOB, C BLOB",
    "nuclear_charges": f"{_KEY}, N INTEGER, Z BLOB",
    "basisset": "Z INTEGER NOT NULL PRIMARY KEY, orbitals BLOB",
    "metadata": "id INTEGER PRIMARY KEY, N INTEGER",
}


class NablaSource:
    """A database of neutral closed shells."""

    order = _UNITS.order

    def __init__(self, path: Path, shells_of: ShellsOf, basis: str) -> None:
        """Find the rows.

        Args:
            path: The database.
            shells_of: Shells of atoms in a basis set, for elements the file says nothing of.
            basis: That basis set.

        Raises:
            WholeFileError: If it is no such file.
        """
        self._path, self._shells_of, self._basis = path, shells_of, basis
        self._rows = Rows(path, "data", ("id", "R", "H"))
        self._common = b""
        if "nuclear_charges" in self._rows.tables and "Z" not in self._rows.columns:
            found = self._rows.select("SELECT Z FROM nuclear_charges WHERE id = 0")
            self._common = found[0][0] if found and isinstance(found[0][0], bytes) else b""
        self._shells: dict[int, tuple[int, ...]] = {}
        if "basisset" in self._rows.tables:
            for number, blob in self._rows.select("SELECT Z, orbitals FROM basisset"):
                self._shells |= _shells(number, blob)

    def __len__(self) -> int:
        """Number of geometries."""
        return len(self._rows)

    def place(self, index: int) -> str:
        """File and frame."""
        return f"{self._path} frame {index}"

    def _numbers(self, row: dict[str, Any]) -> np.ndarray:
        blob = row["Z"] if isinstance(row["Z"], bytes) else self._common
        size = len(row["R"]) if isinstance(row["R"], bytes) else 0
        found = np.frombuffer(blob, "<i4") if blob and len(blob) % 4 == 0 else np.zeros(0, int)
        fits = size in (12 * len(found), 24 * len(found))
        if not fits or not len(found) or not (found.min() > 0 and found.max() <= HEAVIEST):
            raise InputError(
                f"expected Z as atomic numbers (int32) and R of as many atoms, got "
                f"{found.tolist()[:8]} and {size} bytes; leave the row out"
            )
        return found.astype(np.int64)

    def structure(self, index: int) -> Structure:
        """The atoms of a row."""
        row = self._rows.row(index, ("id", "Z", "R"))
        numbers = self._numbers(row)
        coords = numbers_in(row["R"], "R", (len(numbers), 3)) * _UNITS.length
        return Structure(numbers=numbers, coords=coords, name=str(row["id"]))

    def matrices(self, index: int) -> Matrices:
        """H and S of a row, and its energy."""
        row = self._rows.row(index, ("Z", "R", "E", "H", "S"))
        shells = self._of(self._numbers(row))
        nao = sum(sizes_of(shells))
        facts: dict[str, Any] = {"basis": self._basis}
        if isinstance(row["E"], float) and np.isfinite(row["E"]):
            facts["energy"] = row["E"]
        overlap = None if row["S"] is None else numbers_in(row["S"], "S", (nao, nao))
        return from_dense(shells, numbers_in(row["H"], "H", (nao, nao)), overlap, facts=facts)

    def _of(self, numbers: np.ndarray) -> Shells:
        for number in set(numbers.tolist()) - self._shells.keys():
            self._shells[number] = self._shells_of(np.array([number]), self._basis)[0]
        return tuple(self._shells[int(z)] for z in numbers)


def _shells(number: object, blob: object) -> dict[int, tuple[int, ...]]:
    """l of an element's shells; nothing where the entry cannot be meant."""
    if not isinstance(number, int) or not isinstance(blob, bytes) or not blob or len(blob) % 4:
        return {}
    ls = np.frombuffer(blob, "<i4")
    return {number: tuple(ls.tolist())} if ls.min() >= 0 and ls.max() <= 12 else {}


class NablaSink:
    """Writes a database as nablaDFT's readers want it: single precision, ids from 0."""

    def __init__(self, path: Path) -> None:
        """Make the tables.

        Args:
            path: An empty file.

        Raises:
            OSError: If the disk refuses.
        """
        self._connection = sqlite3.connect(path)
        self._count = 0
        with refusals():
            for name, columns in _TABLES.items():
                self._connection.execute(f"CREATE TABLE {name} ({columns})")
        self._shells: dict[int, tuple[int, ...]] = {}

    def write(self, record: Record) -> None:
        """Add a molecule; the layout holds neutral closed shells only, and no core Hamiltonian."""
        structure = closed_shell(record, "nablaDFT")
        matrices = in_order(record.matrices, _UNITS.order)
        check_one_basis(self._shells, record, matrices.shells, "nablaDFT")
        energy = matrices.facts.get("energy")
        row = (
            self._count,
            structure.numbers.astype("<i4").tobytes(),
            (structure.coords / _UNITS.length).astype("<f4").tobytes(),
            None if energy is None else float(energy),
            matrices.fock.to_dense().numpy().astype("<f4").tobytes(),
            required_overlap(matrices).to_dense().numpy().astype("<f4").tobytes(),
        )
        with refusals():
            self._connection.execute(
                "INSERT INTO data (id, Z, R, E, H, S) VALUES (?, ?, ?, ?, ?, ?)", row
            )
            ids = (self._count, self._count, 0)
            self._connection.execute("INSERT INTO dataset_ids VALUES (?, ?, ?)", ids)
        self._count += 1

    def close(self) -> None:
        """Write what all rows have in common, and let go of the file.

        Raises:
            OSError: If the disk refuses.
        """
        with contextlib.closing(self._connection) as connection, refusals():
            connection.execute("INSERT INTO metadata VALUES (0, ?)", (self._count,))
            elements = np.array(sorted(self._shells), dtype="<i4")
            connection.execute(
                "INSERT INTO nuclear_charges VALUES (0, ?, ?)", (len(elements), elements.tobytes())
            )
            connection.executemany(
                "INSERT INTO basisset VALUES (?, ?)",
                [(z, np.array(ls, dtype="<i4").tobytes()) for z, ls in self._shells.items()],
            )
            connection.commit()
