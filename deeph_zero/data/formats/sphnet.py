"""SPHNet's, QHFlow's and QHNet's LMDB: Fock matrices of QH9 and PubChemQH, hartree and ångström.

A key is the index as four big-endian bytes; a value the pickle of {id, num_nodes, atoms, pos, Ham}
with int32 and float64 numbers as plain bytes; a key "length" may hold their number.
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.lmdb_file import LMDBFile, LMDBWriter
from deeph_zero.data.formats.pickles import unpickled
from deeph_zero.data.formats.protocol import (
    Matrices,
    Record,
    Structure,
    closed_shell,
    from_dense,
    sizes_of,
)
from deeph_zero.data.formats.registry import ShellsOf
from deeph_zero.data.formats.sqlite_rows import numbers_in
from deeph_zero.data.stored_values import HEAVIEST
from deeph_zero.errors import InputError

_UNITS = CONVENTIONS["sphnet"]
_LENGTH = b"length"


class SPHNetSource:
    """A database of neutral closed shells; the basis set has to be known."""

    order = _UNITS.order

    def __init__(self, path: Path, shells_of: ShellsOf, basis: str) -> None:
        """Find the values.

        Args:
            path: The file, or the folder with ``data.mdb``.
            shells_of: Shells of atoms in a basis set.
            basis: The basis set.

        Raises:
            WholeFileError: If it is no such file.
        """
        self._path, self._shells_of, self._basis = path, shells_of, basis
        self._file = LMDBFile(path)
        self._places = [k for k, key in enumerate(self._file.keys) if key != _LENGTH]

    def __len__(self) -> int:
        """Number of molecules."""
        return len(self._places)

    def place(self, index: int) -> str:
        """File and frame."""
        return f"{self._path} frame {index}"

    def _read(self, index: int) -> tuple[dict[str, Any], np.ndarray]:
        found = unpickled(self._file.value(self._places[index]))
        atoms = found.get("atoms") if isinstance(found, dict) else None
        if isinstance(atoms, np.ndarray):
            atoms = atoms.astype("<i4").tobytes()
        if not isinstance(atoms, bytes) or len(atoms) % 4 or not atoms:
            raise InputError("expected atoms, atomic numbers (int32), got none; leave it out")
        numbers = np.frombuffer(atoms, "<i4").astype(np.int64)
        if not (numbers.min() > 0 and numbers.max() <= HEAVIEST):
            raise InputError(
                f"expected atomic numbers from 1 to {HEAVIEST}, got {numbers.tolist()[:8]}; leave "
                "it out"
            )
        return found, numbers

    def structure(self, index: int) -> Structure:
        """The atoms of a value."""
        found, numbers = self._read(index)
        coords = numbers_in(_raw(found.get("pos")), "pos", (len(numbers), 3))
        return Structure(
            numbers=numbers, coords=coords * _UNITS.length, name=str(found.get("id", index))[:80]
        )

    def matrices(self, index: int) -> Matrices:
        """The Fock matrix of a value."""
        found, numbers = self._read(index)
        shells = self._shells_of(numbers, self._basis)
        nao = sum(sizes_of(shells))
        fock = numbers_in(_raw(found.get("Ham")), "Ham", (nao, nao))
        return from_dense(shells, fock, facts={"basis": self._basis})


def _raw(value: object) -> object:
    return value.astype("<f8").tobytes() if isinstance(value, np.ndarray) else value


class SPHNetSink:
    """Writes a database."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Args:
            path: An empty file.

        Raises:
            InputError: If lmdb is not installed.
        """
        self._writer, self._count = LMDBWriter(path), 0

    def write(self, record: Record) -> None:
        """Add a molecule; the layout holds neutral closed shells only."""
        structure = closed_shell(record, "SPHNet")
        value = {
            "id": self._count,
            "num_nodes": len(structure.numbers),
            "atoms": structure.numbers.astype("<i4").tobytes(),
            "pos": (structure.coords / _UNITS.length).astype("<f8").tobytes(),
            "Ham": record.matrices.fock.to_dense().numpy().astype("<f8").tobytes(),
        }
        self._writer.put(self._count.to_bytes(4, "big"), pickle.dumps(value, protocol=4))
        self._count += 1

    def close(self) -> None:
        """Write how many there are, and let go of the file."""
        self._writer.put(_LENGTH, pickle.dumps(self._count, protocol=4))
        self._writer.close()
