"""Bytes and text of a structure file: ordinary files only, unpacked within a limit, decoded."""

import bz2
import contextlib
import gzip
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deeph_zero.errors import InputError
from deeph_zero.host.files import regular_file

MAX_UNPACKED = 256 * 2**20
"""Bytes of a packed file once unpacked: a few kilobytes can unpack to terabytes."""
MAX_TEXT = 4 * 2**30
"""Bytes of a text file, which is held in memory."""

_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_PACKED: tuple[tuple[bytes, str, Any], ...] = (
    (b"\x1f\x8b", "gzip", gzip.open),
    (b"BZh", "bzip2", bz2.open),
    (b"\xfd7zXZ\0", "xz", lzma.open),
)
_CONTROL = {*range(32), 127} - {9, 10, 11, 12, 13, 26, 27}
"""Bytes that no title has; tabs, line ends, form feeds, DOS's end of file and escapes may stand."""
_PACK_SUFFIXES = {".gz", ".bz2", ".xz"}


class WholeFileError(InputError):
    """The file as a whole cannot be read."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let every error of reading a file begin with its name, once.

    Args:
        path: The file.

    Yields:
        Nothing.

    Raises:
        InputError: If it is not what it should be, or the system refuses.
    """
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); check the path"
        ) from None


def inner_suffix(path: Path) -> str:
    """The ending of a file without that of its packing.

    Args:
        path: The file.

    Returns:
        Lower case with the dot, "" if there is none.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in _PACK_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def head_of(path: Path) -> bytes:
    """First bytes of a file, which tell binary formats apart.

    Args:
        path: The file.

    Returns:
        At most 64 bytes as they stand on the disk.

    Raises:
        InputError: If it is no ordinary file.
        OSError: If the system refuses.
    """
    regular_file(path)
    with path.open("rb") as file:
        return file.read(64)


def content_of(path: Path) -> bytes:
    """All of a file, unpacked.

    Args:
        path: The file.

    Returns:
        Its bytes.

    Raises:
        WholeFileError: If it is too large, or not packed as its first bytes say.
        OSError: If the system refuses.
    """
    head = head_of(path)
    for magic, name, opener in _PACKED:
        if head.startswith(magic):
            try:
                with opener(path, "rb") as file:
                    return _limited(file, MAX_UNPACKED, "unpack it first, or split it")
            except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                raise WholeFileError(
                    f"expected a whole {name} file, it cannot be unpacked "
                    f"({str(error).splitlines()[0][:80]}); pack it again"
                ) from None
    with path.open("rb") as file:
        return _limited(file, MAX_TEXT, "split it, or write it as .npz")


def _limited(file: Any, limit: int, cure: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := file.read(2**20):
        size += len(part)
        if size > limit:
            raise WholeFileError(f"expected at most {limit // 2**20} MB of text, got more; {cure}")
        parts.append(part)
    return b"".join(parts)


def text_of(content: bytes) -> str:
    """Text of a file; what is not UTF-8 (a title, as a rule) is taken for Latin-1.

    Args:
        content: Its bytes.

    Returns:
        The text, lines ended by a line feed only.

    Raises:
        WholeFileError: If it is no text.
    """
    encoding = next((name for bom, name in _BOMS if content.startswith(bom)), None)
    text = None
    with contextlib.suppress(UnicodeDecodeError):
        text = content.decode(encoding or "utf-8")
    if text is None and encoding is None and not _CONTROL & set(content):
        text = content.decode("latin-1")
    if text is None or "\0" in text:
        raise WholeFileError(
            "expected text, the content is binary; check the file, or name it by its format"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n")
