"""The journal of a batch: results in an append-only file, safe against a kill at any moment.

``out.h5`` and ``out.json`` are written as a whole when a batch ends. Until then each result is a
record of ``out.h5.part``: a fixed head (mark, sizes, checksum), JSON, and the bytes of the arrays.
HDF5 cannot do this: a file that was open when its process was killed may be unreadable. A record
that was cut off is dropped when the journal is opened again.
"""

import dataclasses
import hashlib
import json
import math
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from deeph_zero.errors import ComputationError, InputError, argument
from deeph_zero.host.files import (
    disk_errors,
    elsewhere,
    journal_beside,
    json_beside,
    remove_leavings,
)
from deeph_zero.host.outputs import check_vacant, open_held
from deeph_zero.host.version import __version__
from deeph_zero.molecule import Molecule
from deeph_zero.settings.base import option_name

FORMAT_VERSION = 1
_HEAD = struct.Struct("<4sQQI")
_MARK = b"DZ0J"
_NO_ARGUMENT = ("version", "command", "model")
"""Facts that are no option of a command."""
_SYNC_SECONDS = 5.0
"""How much work a power failure may cost; a killed process costs nothing that was written."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One structure's result.

    Attributes:
        index: Position of the structure among those that were asked for.
        digest: Fingerprint of the structure, see :func:`digest`.
        arrays: Datasets.
        attributes: Attributes of the HDF5 group.
        entry: Entry of the summary.
        auxbasis: Resolved fitting set.
        fock_builds: What it cost.
        coarse_builds: Builds on the coarse grid; not among ``fock_builds``.
    """

    index: int
    digest: str
    arrays: Mapping[str, np.ndarray]
    attributes: Mapping[str, Any]
    entry: dict[str, Any]
    auxbasis: str | None
    fock_builds: int
    coarse_builds: int = 0


def digest(molecule: Molecule) -> str:
    """A fingerprint of a structure: atoms, positions, cell, charge, spin, file and frame."""
    h = hashlib.sha256()
    facts = [molecule.charge, molecule.spin, molecule.file, molecule.frame, molecule.natm]
    h.update(json.dumps(facts).encode())
    h.update(np.ascontiguousarray(molecule.numbers, dtype="<i8").tobytes())
    h.update(np.ascontiguousarray(molecule.coords, dtype="<f8").tobytes())
    if molecule.lattice is not None:
        h.update(np.ascontiguousarray(molecule.lattice, dtype="<f8").tobytes())
        h.update(json.dumps([molecule.pbc, molecule.moments]).encode())
    return h.hexdigest()[:32]


def encode(record: Record) -> bytes:
    """A result as bytes; every number comes back as it was."""
    arrays = {k: np.asarray(v, order="C") for k, v in record.arrays.items() if v is not None}
    head = {
        "index": record.index,
        "digest": record.digest,
        "attributes": dict(record.attributes),
        "entry": record.entry,
        "auxbasis": record.auxbasis,
        "fock_builds": record.fock_builds,
        "coarse_builds": record.coarse_builds,
        "arrays": [[name, value.dtype.str, value.shape] for name, value in arrays.items()],
    }
    return _framed(head, b"".join(value.tobytes() for value in arrays.values()))


def decode(data: bytes) -> Record:
    """The result that :func:`encode` made bytes of."""
    n_text = _HEAD.unpack_from(data)[1]
    end = _HEAD.size + n_text
    return _decode(json.loads(data[_HEAD.size : end]), data[end:])


def _framed(head: Mapping[str, Any], blob: bytes) -> bytes:
    text = json.dumps(head, default=lambda value: value.tolist(), ensure_ascii=False).encode()
    crc = zlib.crc32(blob, zlib.crc32(text))
    return _HEAD.pack(_MARK, len(text), len(blob), crc) + text + blob


def _decode(head: Mapping[str, Any], blob: bytes) -> Record:
    arrays: dict[str, np.ndarray] = {}
    start = 0
    for name, dtype, shape in head["arrays"]:
        count = math.prod(shape)
        values = np.frombuffer(blob, np.dtype(dtype), count, start)
        arrays[name] = values.reshape(shape)
        start += values.nbytes
    rest = {k: v for k, v in head.items() if k != "arrays"}
    return Record(arrays=arrays, **rest)


class Journal:
    """The open journal of one batch; nobody else can open it meanwhile.

    Memory holds where each record begins, not the records.
    """

    def __init__(
        self, out: Path, facts: Mapping[str, Any], *, resume: bool, overwrite: bool = True
    ) -> None:
        """Begin a new journal, or open the one that is there.

        Args:
            out: The HDF5 file of the batch.
            facts: What results depend on, by name (command, model, settings).
            resume: Go on with the journal that is there.
            overwrite: Else drop an older one, and replace results; False refuses where any is.

        Raises:
            InputError: If another process has it, or if it is no journal of these facts, or
                results are there that are neither gone on with nor replaced.
            ComputationError: If it cannot be written.
        """
        self.path = journal_beside(out)
        self._out = out
        self._goes_on = resume
        self._places: dict[int, tuple[int, str]] = {}
        self._synced = time.monotonic()
        document = json.loads(json.dumps({"version": __version__, **facts}, default=str))
        head = {"format_version": FORMAT_VERSION, "facts": document}
        with disk_errors(self.path):
            found = os.path.lexists(self.path)
            self._file = self._held(create=not resume)
            found = found or bool(self._file.seek(0, os.SEEK_END))
        try:
            with disk_errors(self.path):
                # only now: whoever had it until a moment ago may have finished
                if not (resume or overwrite):
                    check_vacant(out, begun=found)
                if resume:
                    self._recover(head)
                else:
                    self._begin(head)
            for file in (out, json_beside(out)):
                remove_leavings(file)
        except BaseException as error:
            if not found or (isinstance(error, ComputationError) and not resume):
                self.path.unlink(missing_ok=True)  # nothing to go on with
            self._file.close()
            raise

    def _held(self, *, create: bool) -> IO[bytes]:
        """The journal, open and held; one to go on with is not made."""
        try:
            return open_held(self.path, self._out, busy="being written", create=create)
        except FileNotFoundError:
            if create:  # the folder is gone
                raise
        raise InputError(f"{_resume()}: expected {self.path}, there is none; leave it out")

    def _begin(self, head: Mapping[str, Any]) -> None:
        self._file.seek(0)
        if self._file.read(len(_MARK)) not in (b"", _MARK):
            raise InputError(
                f"{self.path}: expected an unfinished output, this is another file; remove it or "
                f"{elsewhere()}"
            )
        self._file.truncate(0)
        self._write(_framed(head, b""))

    def _recover(self, head: Mapping[str, Any]) -> None:
        end = 0
        for start, found, size in self._scan():
            if start == 0:
                self._compare(found, head)
            else:
                self._places[found["index"]] = (start, found["digest"])
            end = start + size
        if end == 0:
            if self._begins(_framed(head, b"")):  # killed before it was whole: nothing to lose
                self._file.truncate(0)
                self._begin(head)
                return
            raise InputError(
                f"{_resume()}: {self.path} is damaged at its beginning; begin again with "
                f"{_overwrite()}"
            )
        self._file.truncate(end)

    def _begins(self, whole: bytes) -> bool:
        """Whether what is there, perhaps nothing, is the beginning of this and no more."""
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(0)
        found = self._read(size) if size < len(whole) else whole
        return len(found) < len(whole) and whole.startswith(found)

    def _compare(self, found: Mapping[str, Any], head: Mapping[str, Any]) -> None:
        if found.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"{_resume()}: {self.path} has format {found.get('format_version')}, this version "
                f"writes {FORMAT_VERSION}; begin again with {_overwrite()}"
            )
        for name, was, now in _differences(found.get("facts", {}), head["facts"]):
            # label's tolerance has no short name, as that of a training has
            option = None if name == "conv_tol_grad" else option_name(name)
            words = name if name in _NO_ARGUMENT else argument(name, option=option)
            raise InputError(
                f"{_resume()}: {self._out} was begun with {words} {_short(was)}, this is "
                f"{_short(now)}; give the same again, or begin anew with {_overwrite()}"
            )

    def _scan(self) -> Iterator[tuple[int, dict[str, Any], int]]:
        """Start, JSON and size of every record up to the first that is not whole."""
        total = self._file.seek(0, os.SEEK_END)
        start = 0
        while start + _HEAD.size <= total:
            self._file.seek(start)
            mark, n_text, n_blob, crc = _HEAD.unpack(self._read(_HEAD.size))
            size = _HEAD.size + n_text + n_blob
            if mark != _MARK or start + size > total:
                return
            text = self._read(n_text)
            if zlib.crc32(self._read(n_blob), zlib.crc32(text)) != crc:
                return
            yield start, json.loads(text), size
            start += size

    def _read(self, size: int) -> bytes:
        """Unbuffered files may hand out less than was asked for."""
        parts = []
        while size > 0:
            part = self._file.read(size)
            if not part:
                raise OSError(f"{self.path} ended early")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _write(self, data: bytes) -> int:
        start = self._file.seek(0, os.SEEK_END)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()
        return start

    def __contains__(self, index: object) -> bool:
        """Whether a structure has its result."""
        return index in self._places

    def __len__(self) -> int:
        """How many structures have their result."""
        return len(self._places)

    def check(self, index: int, molecule: Molecule) -> None:
        """See that a result is of this structure.

        Args:
            index: Position of the structure.
            molecule: The structure.

        Raises:
            InputError: If it is not.
        """
        if index in self and self._places[index][1] != digest(molecule):
            raise InputError(
                f"{_resume()}: {self._out} was begun with another structure in the place of "
                f"{molecule.file} frame {molecule.frame}; give the same files again, or begin anew "
                f"with {_overwrite()}"
            )

    def check_count(self, count: int) -> None:
        """See that no result is of a structure behind the last one.

        Args:
            count: Structures there are.

        Raises:
            InputError: If there are fewer structures than there were.
        """
        if self._places and max(self._places) >= count:
            raise InputError(
                f"{_resume()}: {self._out} was begun with {max(self._places) + 1} structures or "
                f"more, got {count}; give the same files again, or begin anew with {_overwrite()}"
            )

    def append(self, index: int, record_digest: str, data: bytes) -> None:
        """Keep one result.

        Args:
            index: Position of the structure.
            record_digest: Fingerprint of the structure.
            data: The encoded record.

        Raises:
            ComputationError: If the disk refuses; results before it can be gone on with.
        """
        # before the first result there is nothing to go on with, and the journal goes
        kept = bool(self._places) or self._goes_on
        with disk_errors(self.path, cure=_resume() if kept else ""):
            start = self._write(data)
        self._places[index] = (start, record_digest)

    def records(self) -> Iterator[Record]:
        """The results in the order of the structures, one in memory at a time."""
        for index in sorted(self._places):
            with disk_errors(self.path):
                self._file.seek(self._places[index][0])
                _, n_text, n_blob, _ = _HEAD.unpack(self._read(_HEAD.size))
                head = json.loads(self._read(n_text))
                blob = self._read(n_blob)
            yield _decode(head, blob)

    def close(self, *, remove: bool) -> None:
        """Let go of it.

        Args:
            remove: Nothing is left to do: delete it.
        """
        if remove:
            self.path.unlink(missing_ok=True)
        self._file.close()


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Name and both values of what differs, sections of settings included."""
    for name in dict.fromkeys((*new, *old)):
        was, now = old.get(name), new.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            yield from _differences(was, now)
        elif was != now:
            yield name, was, now


def _resume() -> str:
    return argument("resume", True)


def _overwrite() -> str:
    return argument("overwrite", True)


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
