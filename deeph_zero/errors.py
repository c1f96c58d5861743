"""The exceptions a user can meet; the command line turns each into one line and an exit code."""

import contextlib
import difflib
import os
from collections.abc import Iterable, Iterator


class DeephZeroError(Exception):
    """Base class. ``exit_code`` is what the command line returns for it."""

    exit_code = 1


class InputError(DeephZeroError, ValueError):
    """The input is wrong: a file, frame, option, setting or argument.

    The message is one line: what was expected, what came (file, frame, value), what to do.
    """

    exit_code = 2


class ComputationError(DeephZeroError, RuntimeError):
    """The computation did not reach what was asked (not converged, out of memory, NaN)."""

    exit_code = 1


class NoSpaceError(ComputationError):
    """The disk is full: whatever comes next would fail as well."""


def refuse_unknown(where: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse collected keywords of a Python function that it does not have.

    Args:
        where: The function, as its users call it.
        given: Names that came.
        known: Names there are.

    Raises:
        InputError: At the first that does not exist; the line names it and those that do.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else "leave it out"
            raise InputError(
                f"{where}: unknown keyword {name}, expected one of {', '.join(names)}; {hint}"
            )


_WORDS = "DEEPH_ZERO_WORDS"
"""Variable that says whose words messages use; worker processes inherit it, as they do LANG."""


@contextlib.contextmanager
def words_of_the_command_line() -> Iterator[None]:
    """Let messages name options (``--spin 1``), where they otherwise name arguments."""
    before = os.environ.get(_WORDS)
    os.environ[_WORDS] = "options"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_WORDS, None)
        else:
            os.environ[_WORDS] = before


def argument(name: str, *value: object, option: str | None = None) -> str:
    """An argument in a message, in the words of the one who reads it.

    Args:
        name: In Python.
        *value: What it should be, or was; none speaks of the argument itself.
        option: On the command line, where the name says it otherwise.

    Returns:
        ``spin``, ``spin=1``, ``forces=True``, ``certificate=False``; on the command line
        ``--spin``, ``--spin 1``, ``--forces``, ``--no-certificate``.
    """
    if os.environ.get(_WORDS) != "options":
        return "=".join([name, *(repr(v) for v in value)])
    no = "no-" if False in [v for v in value if isinstance(v, bool)] else ""
    parts = [part for v in value for part in (v if isinstance(v, tuple) else (v,))]
    words = [str(v) for v in parts if not isinstance(v, bool)]
    return " ".join([option or f"--{no}{name.replace('_', '-')}", *words])
