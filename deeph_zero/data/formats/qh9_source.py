"""QH9's SQLite as a source and a sink; the layout itself is in ``data/qh9.py``."""

from pathlib import Path

from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.protocol import (
    Matrices,
    Record,
    Structure,
    closed_shell,
    from_dense,
    sizes_of,
)
from deeph_zero.data.formats.registry import ShellsOf
from deeph_zero.data.qh9 import Matrices as Rows
from deeph_zero.data.qh9 import Writer
from deeph_zero.data.reading.content import WholeFileError

_UNITS = CONVENTIONS["qh9"]


class QH9Source:
    """A database of neutral closed shells; the basis set has to be known."""

    order = _UNITS.order

    def __init__(self, path: Path, shells_of: ShellsOf, basis: str) -> None:
        """Find the rows.

        Args:
            path: The database.
            shells_of: Shells of atoms in a basis set.
            basis: The basis set.

        Raises:
            WholeFileError: If it is no such file.
        """
        self._path, self._rows = path, Rows(path)
        self._shells_of, self._basis = shells_of, basis
        if not len(self._rows):
            raise WholeFileError("expected molecules, the table data is empty; check the file")

    def __len__(self) -> int:
        """Number of molecules."""
        return len(self._rows)

    def place(self, index: int) -> str:
        """File and frame."""
        return f"{self._path} frame {index}"

    def structure(self, index: int) -> Structure:
        """The atoms of a row."""
        name, numbers, positions = self._rows.geometry(index)
        return Structure(numbers=numbers, coords=positions * _UNITS.length, name=name)

    def matrices(self, index: int) -> Matrices:
        """The Fock matrix of a row."""
        _, numbers, _ = self._rows.geometry(index)
        shells = self._shells_of(numbers, self._basis)
        _, fock = self._rows.read(index, sum(sizes_of(shells)))
        return from_dense(shells, fock, facts={"basis": self._basis})


class QH9Sink:
    """Writes a database."""

    def __init__(self, path: Path) -> None:
        """Make the table.

        Args:
            path: An empty file.
        """
        self._writer = Writer(path)
        self.close = self._writer.close

    def write(self, record: Record) -> None:
        """Add a molecule; the layout holds neutral closed shells only."""
        structure = closed_shell(record, "QH9")
        fock = record.matrices.fock.to_dense().numpy()
        self._writer.add(structure.numbers, structure.coords / _UNITS.length, fock)
