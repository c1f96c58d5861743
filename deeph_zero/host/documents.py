"""Small documents (settings, JSON) read whole: regular files of bounded size and depth only."""

import json
from pathlib import Path
from typing import Any

from deeph_zero.errors import InputError
from deeph_zero.host.files import regular_file

LARGEST = 512 * 2**20
"""Bytes of a document: ten times the summary of 100,000 structures."""
SMALL = 16 * 2**20
"""Bytes of one that people write or that describes one thing."""


def read_document(path: Path, *, largest: int = LARGEST) -> bytes:
    """The content of a document.

    Args:
        path: A regular file, or a link to one.
        largest: Bytes it may have.

    Returns:
        Its bytes.

    Raises:
        InputError: If it is no regular file, or larger.
        OSError: If it cannot be read.
    """
    content = read_regular(path, largest + 1)
    if len(content) > largest:
        raise InputError(
            f"{path}: expected at most {largest / 2**20:g} MB, the file is larger; check that it "
            "is the file you mean"
        )
    return content


def read_regular(path: Path, most: int = -1) -> bytes:
    """The content of a file on disk.

    A device without end would be read until memory ends, a pipe waited for.

    Args:
        path: A regular file, or a link to one.
        most: Bytes to read; all if negative.

    Returns:
        Its bytes.

    Raises:
        InputError: If it is no regular file.
        OSError: If it cannot be read.
    """
    regular_file(path)
    with path.open("rb") as stream:
        return stream.read(most)


def parse_json(content: bytes | str) -> Any:
    """A JSON document.

    Args:
        content: Its text.

    Returns:
        Plain values.

    Raises:
        ValueError: If it is no JSON, or nested without reason; the text says why.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
