"""LMDB files of strangers: read page by page with every bound checked, written with the library.

The library maps a file into memory and trusts its pages: a damaged one can end the process. Only
plain tables are read (no duplicate keys, no named tables), which is what data sets use.

References:
    LMDB 0.9, libraries/liblmdb/mdb.c: the structures MDB_page, MDB_node, MDB_meta.
"""

import contextlib
import importlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError
from deeph_zero.host.files import regular_file

MAGIC = struct.pack("<I", 0xBEEFC0DE)
"""At byte 16 of every file."""
_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_BIG, _OTHER = 1, 6
_NONE = 2**64 - 1
_HEADER = 16


class LMDBFile:
    """The values of a file in the order of their keys."""

    def __init__(self, path: Path) -> None:
        """Find every value.

        Args:
            path: The file, or the folder with ``data.mdb``.

        Raises:
            WholeFileError: If it is no such file, or its tree is damaged.
        """
        path = path / "data.mdb" if path.is_dir() else path
        if not path.is_file():
            raise WholeFileError("expected an LMDB file, there is no such file; check the path")
        regular_file(path)
        self._data = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else b""
        try:
            self._page_size, root = self._root()
            self.keys: list[bytes] = []
            self._places: list[tuple[int, int]] = []
            if root != _NONE:
                self._walk(root)
        except struct.error:
            raise _damaged("it ends too early") from None

    def __len__(self) -> int:
        """Number of keys."""
        return len(self.keys)

    def value(self, index: int) -> bytes:
        """A value by the position of its key."""
        start, size = self._places[index]
        return self._bytes(start, size)

    def _bytes(self, start: int, size: int) -> bytes:
        if start < 0 or size < 0 or start + size > len(self._data):
            raise _damaged("it ends too early")
        return bytes(self._data[start : start + size])

    def _numbers(self, kind: str, start: int) -> tuple[Any, ...]:
        return struct.unpack(kind, self._bytes(start, struct.calcsize(kind)))

    def _root(self) -> tuple[int, int]:
        """Size of a page, and the root of the newer of the two states."""
        found = []
        start = 0
        for _ in range(2):
            if self._bytes(start + 16, 4) != MAGIC or self._numbers("<I", start + 20)[0] != 1:
                raise _damaged("it does not begin as one")
            (size,) = self._numbers("<I", start + 40)
            if size not in (2**k for k in range(9, 17)):
                raise _damaged(f"pages of {size} bytes")
            flags, *_, root = self._numbers("<HHQQQQQ", start + 92)
            last, transaction = self._numbers("<QQ", start + 136)
            found.append((transaction, size, root, last, flags))
            start = size
        _, size, root, last, flags = max(found)
        if (last + 1) * size > len(self._data):
            raise _damaged(f"{(last + 1) * size} bytes are announced, {len(self._data)} are there")
        if flags & ~8:
            raise _damaged("keys with several values")
        return size, root

    def _walk(self, root: int) -> None:
        """Every leaf, in order; a tree has no page twice."""
        waiting, seen = [root], 0
        while waiting:
            start = waiting.pop() * self._page_size
            seen += 1
            if seen * self._page_size > len(self._data):
                raise _damaged("pages that lead back")
            flags, lower = self._numbers("<HH", start + 10)
            count = (lower - _HEADER) // 2
            if not 0 <= count < self._page_size or flags & ~0x10 not in (_BRANCH, _LEAF):
                raise _damaged(f"a page of kind {flags}")
            offsets = self._numbers(f"<{count}H", start + _HEADER)
            if flags & _BRANCH:
                waiting += [self._child(start + offset) for offset in reversed(offsets)]
            else:
                for offset in offsets:
                    self._leaf(start + offset)

    def _child(self, node: int) -> int:
        low, high, top = self._numbers("<HHH", node)
        return low | high << 16 | top << 32

    def _leaf(self, node: int) -> None:
        low, high, flags, key_size = self._numbers("<HHHH", node)
        if flags & _OTHER:
            raise _damaged("keys with several values or tables")
        key = self._bytes(node + 8, key_size)
        size, start = low | high << 16, node + 8 + key_size
        if flags & _BIG:
            start = self._numbers("<Q", start)[0] * self._page_size
            if self._numbers("<H", start + 10)[0] & _OVERFLOW == 0:
                raise _damaged("a value on a page of another kind")
            start += _HEADER
        if start + size > len(self._data):
            raise _damaged("it ends too early")
        self.keys.append(key)
        self._places.append((start, size))


def _damaged(what: str) -> WholeFileError:
    return WholeFileError(f"expected a whole LMDB file, got {what}; copy it again")


class LMDBWriter:
    """A new file, key after key."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Args:
            path: An empty file.

        Raises:
            InputError: If the library is not installed.
        """
        try:
            self._lmdb = importlib.import_module("lmdb")
        except ImportError:
            raise InputError(
                "LMDB files are written with lmdb, which is not installed; run pip install "
                "'deeph-zero[lmdb]'"
            ) from None
        # the size of the map is address space, not disk; the disk is waited for once, at the end
        self._environment = self._lmdb.open(
            str(path), subdir=False, lock=False, map_size=2**40, sync=False, metasync=False
        )

    def put(self, key: bytes, value: bytes) -> None:
        """Write a value; raises OSError where the disk refuses."""
        with self._errors(), self._environment.begin(write=True) as transaction:
            transaction.put(key, value)

    def close(self) -> None:
        """Let go of the file."""
        with self._errors():
            self._environment.sync(True)
        self._environment.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except self._lmdb.Error as error:
            raise OSError(str(error)) from None
