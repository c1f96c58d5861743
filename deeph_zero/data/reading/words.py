"""Words of a structure file: numbers without Python's liberties, elements, lines of atoms."""

import re
from collections.abc import Sequence

import ase
import numpy as np
from ase.data import chemical_symbols

from deeph_zero.data.reading.state import Say
from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM

MAX_COORDINATE = 1e6
"""Angstrom: a molecule is not a tenth of a millimetre wide."""
MAX_ATOMS = 10**7

_NUMBER = re.compile(
    r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d+)?|nan|inf|infinity)", re.ASCII | re.IGNORECASE
)
_SYMBOLS = {symbol.upper(): z for z, symbol in enumerate(chemical_symbols) if z}
_HYDROGENS = {"D", "T"}
ISOTOPES = "isotopes have the same electrons, their mass is not used"
_GHOSTS = {"X", "XX", "BQ", "GH", "Q", "DA", "DU"}
_GHOST = re.compile(
    r"@[A-Za-z]|gh\(|[A-Za-z]{1,2}:$|[A-Za-z]{1,2}-bq|bq[-_\d:]|(ghost|x)-", re.IGNORECASE
)
"""How programs mark functions without a nucleus."""
_AMBIGUOUS = {
    "CA", "CD", "CE", "CF", "CM", "CN", "CO", "CR", "CS", "HE", "HF", "HG", "HO", "HS", "NA",
    "NB", "ND", "NE", "NI", "NO", "NP", "OS", "PA", "PD", "SB", "SC",
}  # fmt: skip
"""Atom names of residues, or elements: CA is alpha carbon or calcium."""
_NO_NUMBER = re.compile(
    r"(?:could not convert string (?:to float: )?|invalid literal for int\(\) with base \d+: b?)"
    r"['\"](.*?)['\"]"
)
_OF_PYTHON = re.compile(
    r"out of range|to unpack|broadcast|NoneType|has no attribute|unsupported operand|ufunc|"
    r"subscriptable|object is not|codec can't|NaN to integer|\b\w+Error\b|positional argument|"
    r"cannot reshape|array split|dimension mismatch"
)
"""How Python and NumPy call a file that has too few or too many words."""
_LABEL = re.compile(r"([A-Za-z]{1,2})(?:[_-]?\d+|\(\d+\))", re.ASCII)


def number(word: str) -> float | None:
    """A number as programs write it: Fortran's ``D`` and Mathematica's ``*^`` exponents included.

    Args:
        word: The word.

    Returns:
        The number (perhaps not finite), None for anything else, ``1_0`` included.
    """
    if not _NUMBER.fullmatch(word):
        word = word.replace("*^", "e", 1).replace("\u2212", "-")
        if not _NUMBER.fullmatch(word):
            return None
    if "n" not in word and "N" not in word:  # nan and inf have no exponent, but perhaps a D
        word = word.replace("D", "e").replace("d", "e")
    return float(word)


def integer(word: str, largest: int = MAX_ATOMS) -> int | None:
    """A whole number, None if it is none or its size is beyond ``largest``.

    Args:
        word: The word.
        largest: Largest absolute value that is taken.

    Returns:
        The number or None.
    """
    if not re.fullmatch(r"\s*[+-]?\d{1,12}\s*", word, re.ASCII):
        return None
    return int(word) if abs(int(word)) <= largest else None


def element(word: str, say: Say) -> int:
    """Atomic number of a symbol in any case, a label such as ``O1``, or an atomic number.

    Args:
        word: The word.
        say: Takes a warning.

    Returns:
        The atomic number, hydrogen's for ``D`` and ``T``.

    Raises:
        InputError: If it is no element, or a ghost.
    """
    upper = word.upper()
    found = _SYMBOLS.get(upper)
    if found:
        return found
    if (label := _LABEL.fullmatch(word)) is not None:
        upper = label[1].upper()
        if label[1] in _AMBIGUOUS:
            raise InputError(two_meanings(word))
    if upper in _HYDROGENS:
        say(f"{word} is read as hydrogen: {ISOTOPES}")
        return 1
    if upper in _GHOSTS or _GHOST.match(word):
        raise InputError(
            f"expected an element, got atom {word!r}; ghost atoms are not supported, leave it out"
        )
    z = _SYMBOLS.get(upper) or integer(word, 118)
    if not z or z < 0:
        raise InputError(f"expected an element symbol, got {quote(word)}; correct the symbol")
    return z


def is_ambiguous(name: str) -> bool:
    """Whether two letters in upper case are an element as well as a name in a residue.

    Args:
        name: The letters.

    Returns:
        True if they may be either.
    """
    return name in _AMBIGUOUS


def two_meanings(name: str) -> str:
    """What to say of an atom that may be of two elements.

    Args:
        name: Its name in the file.

    Returns:
        One line.
    """
    first, both = name[0], name[:2].capitalize()
    return f"expected an element symbol, got {name!r}, which may be {first} or {both}; write one"


def atom_line(line: str, say: Say) -> tuple[int, list[float]]:
    """Atomic number and position of ``symbol x y z``; further words are left to the caller.

    Args:
        line: The line.
        say: Takes a warning.

    Returns:
        Atomic number and three numbers in the line's unit.

    Raises:
        InputError: If it is no such line.
    """
    words = line.split()
    xyz = [number(word) for word in words[1:4]]
    if len(xyz) < 3 or None in xyz:
        raise InputError(f"expected 'symbol x y z', got {quote(line)}; correct the line")
    return element(words[0], say), [float(x) for x in xyz if x is not None]


def molecule(lines: Sequence[str], say: Say, *, bohr: bool = False) -> ase.Atoms:
    """Atoms of lines ``symbol x y z`` and nothing else.

    Args:
        lines: The lines.
        say: Takes a warning.
        bohr: Whether they are in bohr instead of ångström.

    Returns:
        The atoms, ångström.

    Raises:
        InputError: If a line is another one, or there is none.
    """
    if not lines:
        raise InputError("expected a molecule, got no atoms; leave the frame out")
    numbers, positions = [], []
    for line in lines:
        if len(line.split()) > 4:
            raise InputError(f"expected 'symbol x y z', got {quote(line)}; leave out what follows")
        z, xyz = atom_line(line, say)
        numbers.append(z)
        positions.append(xyz)
    return ase.Atoms(numbers, np.array(positions) * (BOHR_IN_ANGSTROM if bohr else 1.0))


def check_size(positions: np.ndarray, numbers: np.ndarray) -> None:
    """Coordinates are finite and of a size that molecules have.

    Args:
        positions: Ångström, [natm, 3].
        numbers: Atomic numbers, [natm].

    Raises:
        InputError: If one is not.
    """
    # written so that NaN fails too
    wrong = ~(np.abs(positions) <= MAX_COORDINATE).all(axis=1)
    if not wrong.any():
        return
    k = int(np.argmax(wrong))
    xyz = " ".join(f"{x:g}" for x in positions[k])
    z = int(numbers[k])
    symbol = chemical_symbols[z] if 0 <= z < len(chemical_symbols) else f"Z = {z}"
    what = (
        f"coordinates up to {MAX_COORDINATE:g} angstrom"
        if np.isfinite(positions[k]).all()
        else "finite coordinates"
    )
    raise InputError(
        f"expected {what}, got {xyz} for atom {k + 1} ({symbol}); correct the coordinates or "
        "leave the frame out"
    )


def quote(text: str) -> str:
    """A short, printable quotation of what came.

    Args:
        text: Any text.

    Returns:
        One line of at most 42 characters.
    """
    short = " ".join(text[:400].split())
    return repr(short if len(short) <= 40 else short[:37] + "...")


def refusal(name: str, error: Exception) -> InputError:
    """What is said where ASE's reader of a format fails.

    Args:
        name: The format.
        error: What the reader raised.

    Returns:
        An error of one line.
    """
    return InputError(
        f"expected a structure in the format {name}, ASE cannot read it ({_reason_of(error)}); "
        "correct it or write .xyz"
    )


def _reason_of(error: Exception) -> str:
    """Why a reader of another package failed, without words of Python."""
    line = next(iter(str(error).splitlines()), "")
    value = _NO_NUMBER.search(line)
    if value is not None:
        return f"expected a number, got {quote(value[1])}"
    if not line:
        return "it is another kind of file"
    if _OF_PYTHON.search(line):
        return "a value or a line is missing or is too many"
    return line[:100]
