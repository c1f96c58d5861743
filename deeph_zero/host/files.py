"""Files: ordinary ones to read, and whole ones or none to write."""

import contextlib
import csv
import errno
import io
import json
import math
import os
import re
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deeph_zero.errors import ComputationError, InputError, NoSpaceError, argument

HDF5_SUFFIXES = (".h5", ".hdf5")
_LONGEST_NAME = 255
"""Bytes, of nearly every file system."""
_ROOM = 32
"""Bytes of it for what tells temporary names apart."""

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular_file(path: str | Path) -> None:
    """Refuse what is no ordinary file: reading a pipe waits, reading a device may never end.

    Symbolic links to files are followed. A folder, or nothing at all, is left to the caller.

    Args:
        path: What is to be read.

    Raises:
        InputError: If it is a pipe, a socket or a device.
    """
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return
    what = _KINDS.get(stat.S_IFMT(mode))
    if what is not None:
        raise InputError(f"{path}: expected a file, this is {what}; copy its contents to a file")


def json_beside(path: Path) -> Path:
    """The summary that belongs to an HDF5 file."""
    return path.with_suffix(".json")


def journal_beside(path: Path) -> Path:
    """What an unfinished HDF5 file goes on from, see ``jobs/journal.py``."""
    return path.with_name(path.name + ".part")


def output_argument() -> str:
    """What says where a result goes: ``out``, on the command line ``-o``."""
    return argument("out", option="-o")


def elsewhere() -> str:
    """What to do about a place that is taken: the end of many messages."""
    return f"choose another {output_argument()}"


def open_own(path: Path, *, create: bool = True) -> int:
    """Open a lock or a journal for reading and writing; links are not followed.

    Someone who may write in the folder could have put a link to another file in its place.

    Args:
        path: The file.
        create: Make it if need be.

    Returns:
        The descriptor; the content is as it was.

    Raises:
        InputError: If a link, a folder, a pipe or a device is in its place.
        OSError: If the disk refuses.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    flags |= os.O_CREAT if create else 0
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        what = "a link" if error.errno == errno.ELOOP else "no file"
    else:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
            return descriptor
        os.close(descriptor)
        what = "a link to another file" if stat.S_ISREG(status.st_mode) else "no file"
    raise InputError(
        f"{path}: expected a file of deeph-zero's own, this is {what}; remove it or {elsewhere()}"
    )


def temporary_beside(path: Path) -> Path:
    """A name beside ``path`` that nobody foresees and no file system finds too long.

    Args:
        path: What is going to be there.

    Returns:
        The name, of nothing that exists.
    """
    unforeseen = secrets.token_hex(4)
    return path.with_name(f"{_hidden(path)}.{os.getpid()}-{_machine()}{unforeseen}.tmp")


def _machine() -> str:
    """Tells machines that share a disk apart, whose processes may have the same number."""
    return f"{zlib.crc32(os.uname().nodename.encode()) & 0xFFFF:04x}"


def _hidden(path: Path) -> str:
    """What all temporary names of a file begin with."""
    name = os.fsencode(path.name)[: _LONGEST_NAME - _ROOM].decode(errors="ignore")
    return f".{name}"


def remove_leavings(path: Path) -> None:
    """Remove what killed processes left half written of a file; the caller holds the file.

    Args:
        path: The file; temporary files of a living process beside it would go too.
    """
    for entry, _, _ in _leavings(path):
        if entry.is_file(follow_symlinks=False):
            with contextlib.suppress(OSError):
                Path(entry).unlink()


def remove_abandoned(*paths: Path) -> None:
    """Remove what killed processes of this machine left half written of files or folders.

    Args:
        *paths: Nobody needs to hold them: what a living process writes stays.
    """
    for entry, process, machine in (found for path in paths for found in _leavings(path)):
        if machine != _machine() or _lives(process):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                Path(entry).unlink()


def _leavings(path: Path) -> Iterator[tuple[os.DirEntry[str], int, str]]:
    """Temporary files and folders of a path: each with its process and machine, if it says so."""
    ours = re.compile(
        rf"{re.escape(_hidden(path))}\.(\d{{1,9}})-([0-9a-f]{{4}})?[0-9a-f]{{8}}\.tmp"
    )
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if found := ours.fullmatch(entry.name):
                yield entry, int(found[1]), found[2] or ""


def _lives(process: int) -> bool:
    """Whether there is a process of this number."""
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """An empty temporary file in the same folder that becomes ``path`` when the block succeeds.

    Its name cannot be foreseen, and it is not there before: no link is followed.

    Args:
        path: Final name.

    Yields:
        The name to write to.

    Raises:
        ComputationError: If writing fails (disk full, folder gone).
    """
    temporary = temporary_beside(path)
    try:
        temporary.open("xb").close()
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file as a whole.

    Args:
        path: Where.
        text: Content.

    Raises:
        ComputationError: If writing fails; the old file, if any, is still there then.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table as a whole; what a row lacks is empty.

    Args:
        path: Where.
        columns: Names; others in a row are left out.
        rows: Values by name.

    Raises:
        ComputationError: If writing fails; the old file, if any, is still there then.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def append_csv(path: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Add a line to a table of :func:`write_csv`.

    Args:
        path: The table.
        columns: Its columns.
        row: Values by name; others are left out, what it lacks is empty.

    Raises:
        ComputationError: If writing fails.
    """
    try:
        with path.open("a", newline="", encoding="utf-8") as stream:
            csv.DictWriter(stream, columns, restval="", extrasaction="ignore").writerow(row)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_json(path: Path, data: Any) -> None:
    """Write JSON as a whole; NaN and infinity become null, NumPy values plain ones.

    Args:
        path: Where.
        data: Anything made of mappings, sequences, numbers, strings, NumPy values.

    Raises:
        ComputationError: If writing fails.
    """
    write_text(path, to_json(data) + "\n")


def to_json(data: Any) -> str:
    """Standard JSON text of ``data``, see :func:`write_json`."""
    return json.dumps(_plain(data), indent=1, allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


@contextlib.contextmanager
def disk_errors(path: Path, *, cure: str = "") -> Iterator[None]:
    """Turn what the disk refuses inside the block into one line.

    Args:
        path: The file that is written.
        cure: Option with which to run it again.

    Raises:
        ComputationError: If reading or writing fails.
    """
    try:
        yield
    except OSError as error:
        again = f" with {cure}" if cure else ""
        raise ComputationError(f"{cannot('write', path, error)}{cure_of(error)}{again}") from None


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def cannot_write(path: Path, error: OSError) -> ComputationError:
    """What to raise where writing failed, with the cure; a full disk has a class of its own."""
    kind = NoSpaceError if error.errno in _FULL else ComputationError
    return kind(cannot("write", path, error) + cure_of(error))


def errno_in(text: str) -> int | None:
    """The system's error number in HDF5's words."""
    tail = text.partition("errno = ")[2]
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    return int(digits) if digits else None


def cannot(verb: str, path: Path, error: OSError) -> str:
    """What failed, and the system's reason."""
    lines = (error.strerror or str(error) or type(error).__name__).splitlines()
    return f"cannot {verb} {path} ({lines[0]})"


def cure_of(error: OSError) -> str:
    """What to do about it."""
    if error.errno in _FULL:
        return "; free some space and run it again"
    return "; check the folder and run it again"
