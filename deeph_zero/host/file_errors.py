"""What stood in the way of a file, in one line."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from deeph_zero.errors import ComputationError, NoSpaceError


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
