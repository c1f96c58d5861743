"""Models that come with the package: found by name, each file proven by its checksum.

They are files of the package (``shipped/``); nothing is ever fetched. ``shipped/index.json`` has
the SHA-256 of every one, ``tools/pretrain/pack.py`` writes them.
"""

import difflib
import hashlib
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from deeph_zero.ao.basis_text import same_basis
from deeph_zero.errors import InputError
from deeph_zero.host import shipped
from deeph_zero.host.documents import SMALL, parse_json, read_regular
from deeph_zero.host.saying import say_once
from deeph_zero.method import Method

if TYPE_CHECKING:
    from deeph_zero.model_files.card import Card


def names() -> list[str]:
    """Names of the models that come with the package, in the order of the index.

    Returns:
        The names; none where the package was built without models.

    Raises:
        InputError: If the index is damaged.
    """
    return list(shipped.checksums())


def given_by_name(model: str | os.PathLike[str]) -> bool:
    """Whether MODEL is the name of a model that comes with the package.

    What is in the current folder under that name is taken first.

    Args:
        model: As the user gave it.

    Returns:
        True for such a name, where no file or folder is called so.

    Raises:
        InputError: If the index is damaged.
    """
    text = os.fspath(model)
    return shipped.is_name(text) and not os.path.lexists(text)


def say_what_is_taken(model: str | os.PathLike[str]) -> None:
    """Warn where a model of the current folder hides one of that name that comes with the package.

    Args:
        model: As the user gave it; a model is there.

    Raises:
        InputError: If the index is damaged.
    """
    text = os.fspath(model)
    if shipped.is_name(text) and os.path.lexists(text):
        say_once(
            f"{text}: taken is what is called so in this folder, not the model of that name that "
            "comes with the package; rename it for the other one"
        )


def shipped_folder(name: str) -> Path:
    """The folder of a model that comes with the package, all of its files as they were packed.

    Args:
        name: Its name.

    Returns:
        With ``model.safetensors``, ``model.json`` and ``card.json``.

    Raises:
        InputError: If there is none of that name, or a file is missing or was changed.
    """
    known = shipped.checksums()
    if name not in known:
        near = nearest(name)
        cure = f"did you mean {near}?" if near else "`deeph-zero models` lists them"
        there = ", ".join(known) or "there are none in this version"
        raise InputError(
            f"expected a model that comes with the package ({there}), got {name!r}; {cure}"
        )
    folder = shipped.FOLDER / name
    for file, wanted in known[name].items():
        try:
            content = read_regular(folder / file, shipped.LARGEST + SMALL)
        except OSError as error:
            raise InputError(
                f"{name}: expected {folder / file}, which cannot be read "
                f"({error.strerror}); {shipped.CURE}"
            ) from None
        if hashlib.sha256(content).hexdigest() != wanted:
            raise InputError(
                f"{name}: expected {folder / file} as it was packed, got another content "
                f"({len(content)} bytes, SHA-256 differs); {shipped.CURE}"
            )
    return folder


def card(name: str) -> "Card":
    """What a model that comes with the package is said to know.

    Args:
        name: Its name.

    Returns:
        Its card.

    Raises:
        InputError: As :func:`shipped_folder`, or if it is no card.
    """
    from deeph_zero.model_files.card import Card

    path = shipped_folder(name) / shipped.CARD
    try:
        return Card.model_validate(parse_json(read_regular(path)))
    except (ValueError, pydantic.ValidationError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"{path}: expected the card of a model ({first}); {shipped.CURE}"
        ) from None


def nearest(text: str) -> str | None:
    """The name that was perhaps meant.

    Args:
        text: What was typed.

    Returns:
        A name; None where nothing is like it.
    """
    if not shipped.may_be_name(text.rstrip("/")):
        return None
    wanted = text.rstrip("/").lower().replace("_", "-")
    found = difflib.get_close_matches(wanted, shipped.checksums(), n=1)
    return found[0] if found else None


def fitting(
    elements: Collection[str], states: Collection[tuple[int, int]], method: Method
) -> str | None:
    """A model that training on structures could start from.

    Args:
        elements: Symbols of their elements.
        states: Their charges and spins.
        method: What is solved.

    Returns:
        The name of the first model of this method that knows all of it; None if there is none.

    Raises:
        InputError: If a model is not as it was packed.
    """
    return next((name for name in names() if _fits(card(name), elements, states, method)), None)


def _fits(
    known: "Card", elements: Collection[str], states: Collection[tuple[int, int]], method: Method
) -> bool:
    from deeph_zero.integrals.calculation import same_functional
    from deeph_zero.integrals.libxc import describe

    theirs = known.method
    return (
        {*elements} <= {*known.domain.elements}
        and {*states} <= {*known.domain.states}
        and method.density_fit == theirs.density_fit
        and method.auxbasis in (None, theirs.auxbasis)
        and same_basis(method.basis, theirs.basis)
        and same_functional(describe(method.xc), describe(theirs.xc))
    )
