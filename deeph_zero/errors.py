"""The exceptions a user can meet; the command line turns each into one line and an exit code."""


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
