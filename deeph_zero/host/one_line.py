"""Text for a terminal: one line, nothing a terminal would obey, never a screenful."""

import datetime as dt
import re

LONGEST = 600
"""Characters of a line about something that went wrong, a few rows of a terminal."""
_LONGEST_WORD = 120
"""Characters of one word (a path, a number) in a line that is too long otherwise."""


def one_line(text: str, *, longest: int | None = LONGEST) -> str:
    r"""``text`` with control characters written out, and the middle of what is too long left out.

    File names can hold escape sequences, line ends and marks that turn the writing direction; a
    terminal would obey them. They become ``\x1b``, ``\n``, ``\u202e``.

    Args:
        text: Any text.
        longest: Characters to keep; None keeps all.

    Returns:
        Printable text without a line end.
    """
    plain = "".join(c if c.isprintable() else _written_out(c) for c in text.strip())
    if longest is None or len(plain) <= longest:
        return plain
    words = re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda m: _elided(m[0], _LONGEST_WORD), plain)
    return _elided(words, longest)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def _elided(text: str, length: int) -> str:
    """Beginning and end: a line begins with its place and ends with what to do."""
    if len(text) <= length:
        return text
    half = (length - 3) // 2
    return f"{text[:half]}...{text[-half:]}"


def quoted(value: object) -> str:
    """``repr`` of a value from outside, whatever it is.

    Args:
        value: What came; numbers too long to be written and lists too deep are described.

    Returns:
        Text, not longer than a line.
    """
    if isinstance(value, dt.date | dt.time):
        return str(value)
    try:
        return _elided(repr(value), LONGEST // 2)
    except (ValueError, RecursionError):  # more than 4300 digits, or nested without end
        return "a number of very many digits" if isinstance(value, int) else "something nested"
