"""POSCAR files of VASP before ASE reads them: counts that do not fit, and cells that are none."""

import contextlib
import re
from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers
from ase.formula import Formula

from deeph_zero.data.reading.words import integer, number, quote
from deeph_zero.errors import InputError

_COMMENT = re.compile(r"[!#].*")


def check_poscar(text: str) -> None:
    """Refuse what ASE would read as another crystal, or in Python's words.

    Args:
        text: The file.

    Raises:
        InputError: If the cell is none, symbols and counts do not fit each other, or there are
            more or fewer positions than counted.
    """
    lines = text.split("\n")
    if len(lines) < 7:
        raise InputError(f"expected a POSCAR of 7 lines and more, got {len(lines)}; complete it")
    scale = _numbers(lines, 1)
    if len(scale) not in (1, 3) or 0 in scale or not np.isfinite(scale).all():
        raise InputError(
            f"line 2: expected one scale or three, not 0, got {quote(lines[1])}; correct it"
        )
    for k in (2, 3, 4):
        if len(_numbers(lines, k)) != 3:
            raise InputError(
                f"line {k + 1}: expected a lattice vector, got {quote(lines[k])}; correct it"
            )
    counts, place = _counts(lines)
    _check_positions(lines, sum(counts), place + 1)


def _numbers(lines: Sequence[str], k: int) -> list[float]:
    """Numbers that a line begins with."""
    found: list[float] = []
    for word in _COMMENT.sub("", lines[k]).split():
        value = number(word)
        if value is None:
            break
        found.append(value)
    return found[:3]


def _words(line: str) -> list[str]:
    return _COMMENT.sub("", line).split()


def _counts(lines: Sequence[str]) -> tuple[list[int], int]:
    """Atoms of each kind, and the line that says so; VASP 4 has no line of symbols before."""
    first = _words(lines[5])
    is_old = bool(first) and None not in map(integer, first)
    place = 5 if is_old else 6
    words = _words(lines[place])
    counts = [count for count in map(integer, words) if count is not None]
    if len(counts) != len(words) or not words or min(counts) < 0 or not sum(counts):
        raise InputError(
            f"line {place + 1}: expected numbers of atoms, got {quote(lines[place])}; correct it"
        )
    if not is_old and len(first) != len(words):
        raise InputError(
            f"line 7: expected a number of atoms for each of {len(first)} symbols "
            f"({quote(lines[5])}), got {quote(lines[6])}; correct one of them"
        )
    symbols = _symbols_of(lines[0]) if is_old else [re.split("[_/]", w)[0] for w in first]
    if len(symbols) < len(counts) or any(s not in atomic_numbers for s in symbols[: len(counts)]):
        raise InputError(
            f"line 6: expected element symbols, got {quote(lines[5])}; write them above the "
            "numbers of atoms, as VASP 5 does"
        )
    return counts, place


def _symbols_of(title: str) -> list[str]:
    """Symbols that a title names, where VASP 4 has no line for them."""
    symbols: list[str] = []
    for word in title.split():
        with contextlib.suppress(ValueError):
            symbols += list(Formula(re.sub(r"[-_,.=\d]", "", word)))
    return symbols


def _check_positions(lines: Sequence[str], natm: int, start: int) -> None:
    start += 1 + (lines[start].strip()[:1].lower() == "s" if start < len(lines) else 0)
    for k in range(natm):
        if start + k >= len(lines) or len(_numbers(lines, start + k)) != 3:
            raise InputError(
                f"expected {natm} positions of three numbers, got {k}; complete them or correct "
                "the numbers of atoms"
            )
    behind = start + natm
    if behind < len(lines) and len(_numbers(lines, behind)) == 3:
        raise InputError(
            f"expected {natm} positions and then an empty line, got {quote(lines[behind])} in line "
            f"{behind + 1}; correct the numbers of atoms"
        )
