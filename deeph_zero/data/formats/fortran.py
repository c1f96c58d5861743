"""Fortran's unformatted records: each stands between two marks of its length, little endian."""

import struct
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Shaped

from deeph_zero.errors import InputError


@final
class FortranRecords:
    """The records of a file, one after the other; nothing is read ahead."""

    def __init__(self, path: Path, title: str) -> None:
        """Nothing is read yet.

        Args:
            path: An ordinary file.
            title: What it should be, for messages.
        """
        self._title = title
        self._data = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else b""
        self._at = 0

    def next(self, what: str) -> bytes:
        """The content of the next record.

        Args:
            what: It holds, for messages.

        Returns:
            Its bytes.

        Raises:
            InputError: If the file ends, or the marks do not agree.
        """
        start = self._at + 4
        size = self._mark(self._at, what)
        if size < 0 or start + size + 4 > len(self._data) or self._mark(start + size, what) != size:
            raise InputError(
                f"expected {what} at byte {self._at}, the record is cut off or damaged; copy the "
                "file again"
            )
        self._at = start + size + 4
        return bytes(self._data[start : start + size])

    def _mark(self, at: int, what: str) -> int:
        head = bytes(self._data[at : at + 4])
        if len(head) < 4:
            raise InputError(f"expected {what}, the file ends at byte {at}; copy it again")
        return struct.unpack("<i", head)[0]

    def numbers(self, what: str, kind: str, count: int) -> Shaped[np.ndarray, " n"]:
        """A record of numbers of one kind.

        Args:
            what: It holds, for messages.
            kind: Their type, as ``numpy.dtype`` takes it.
            count: How many.

        Returns:
            The numbers, read-only.

        Raises:
            InputError: If the record has another length.
        """
        found = self.next(what)
        size = np.dtype(kind).itemsize
        if len(found) != count * size:
            raise InputError(
                f"expected {count} numbers of {what}, got a record of {len(found)} bytes; check "
                f"that it is {self._title}"
            )
        return np.frombuffer(found, kind)
