"""The exceptions a user can meet; the command line turns each into one line and an exit code."""

import difflib
from collections.abc import Iterable


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
