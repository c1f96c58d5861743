"""Models that are files of the package: where they lie, and the SHA-256 that each file has."""

import os
from pathlib import Path
from typing import Any

from deeph_zero.errors import InputError
from deeph_zero.host.documents import SMALL, parse_json, read_regular

FOLDER = Path(__file__).parents[1] / "model_files" / "shipped"
"""A folder for each model, and the index; a test puts its own here."""
INDEX = "index.json"
CARD = "card.json"
FILES = ("model.safetensors", "model.json", CARD)
LARGEST = 8_000_000
"""Bytes of a model that is shipped: a wheel is downloaded by everyone."""
CURE = "install deeph-zero again"


def may_be_name(text: str) -> bool:
    """Whether a text could be the name of such a model, and is no path for sure."""
    return bool(text.strip()) and not {os.sep, os.altsep, "."} & {*text}


def checksums() -> dict[str, dict[str, str]]:
    """SHA-256 of every file, by model and file name, in the order of the index.

    Returns:
        Nothing where the package was built without models.

    Raises:
        InputError: If the index is damaged.
    """
    path = FOLDER / INDEX
    try:
        found = parse_json(read_regular(path, SMALL))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected the list of models ({error}); {CURE}") from None
    if not _is_index(found):
        raise InputError(f"{path}: expected the list of models, got something else; {CURE}")
    return found


def is_name(text: str) -> bool:
    """Whether a model of this name comes with the package.

    Args:
        text: Any text.

    Returns:
        True for the name of a model.

    Raises:
        InputError: If the index is damaged.
    """
    return may_be_name(text) and text in checksums()


def _is_index(found: Any) -> bool:
    return isinstance(found, dict) and all(
        isinstance(entry, dict) and entry.keys() == {*FILES} and may_be_name(name)
        for name, entry in found.items()
    )
