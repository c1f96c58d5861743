"""Basis sets written out in NWChem's format: a strict reader of numbers, and one way to write them.

A basis set is either a name that PySCF's library knows or such a text; files are read where a user
names one on the command line, and nowhere else. PySCF's own reader hands what it does not
understand to Python's ``eval``, so it never sees a text.
"""

import dataclasses
import functools
import hashlib
import math
import re
from collections.abc import Collection, Mapping

from deeph_zero.errors import InputError

MAX_BYTES = 16 * 2**20
"""Largest basis file; the largest collections have a tenth of it."""
_MAX_NAME = 60
_SYMBOLS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se
Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy
Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf
Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
"""
_ELEMENTS = tuple(_SYMBOLS.split())
_LETTERS = "SPDFGHIK"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d{1,3})?")
_POWERS = 7
"""Powers of r in a pseudopotential, 0 to 6, as many as PySCF keeps."""

Shells = list[list]
"""PySCF's form: [l, [exponent, coefficient, ...], ...] of every shell."""


@dataclasses.dataclass(frozen=True)
class BasisSet:
    """The numbers of a text.

    Attributes:
        shells: Shells of every element, in the order of the text.
        ecps: Pseudopotentials in PySCF's form: electrons replaced, then the terms of every l.
    """

    shells: Mapping[str, Shells]
    ecps: Mapping[str, list]


def is_text(basis: str) -> bool:
    """Whether it is a basis set written out, not the name of one."""
    return "\n" in basis


def looks_like_path(name: str) -> bool:
    """Whether a name has parts of a path in it; in brackets the library has slashes itself."""
    return bool(re.search(r"[/\\\0]|^~", re.sub(r"\([^()]*\)", "", name)))


@functools.lru_cache(maxsize=64)
def parse_basis(text: str) -> BasisSet:
    """Read a text; nobody may change what comes back.

    Args:
        text: NWChem's format: ``BASIS`` and ``ECP`` sections with or without their first and last
            lines, numbers also with D exponents, comments behind #.

    Returns:
        Its numbers.

    Raises:
        InputError: At the first line that is none of this format, or without any functions.
    """
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        try:
            if words:
                reader.take(words)
        except InputError as error:
            raise InputError(f"line {number}: {error}") from None
    return reader.finish()


class _Reader:
    """Line by line; ``rows`` is what the next line of numbers belongs to."""

    def __init__(self) -> None:
        self.shells: dict[str, Shells] = {}
        self.ecps: dict[str, list] = {}
        self.in_ecp = False
        self.targets: list[list] = []
        self.powers: list[list] | None = None

    def take(self, words: list[str]) -> None:
        first = words[0].upper()
        if first in ("BASIS", "ECP", "END"):
            if "CARTESIAN" in (word.upper() for word in words):
                raise InputError(
                    "expected SPHERICAL functions, got CARTESIAN, which are not supported; change "
                    "the word if spherical ones are meant"
                )
            self.in_ecp = first == "ECP"
            self.targets, self.powers = [], None
        elif words[0][0].isalpha():
            symbol = words[0].capitalize()
            if symbol not in _ELEMENTS:
                raise InputError(f"expected an element, got {_short(words[0])}; correct the symbol")
            (self._ecp_head if self.in_ecp else self._shell_head)(symbol, words[1:])
        elif self.powers is not None:
            self._ecp_row(words)
        else:
            self._shell_row(words)

    def _shell_head(self, symbol: str, words: list[str]) -> None:
        letters = words[0].upper() if len(words) == 1 else ""
        if letters != "SP" and (len(letters) != 1 or letters not in _LETTERS):
            raise InputError(
                f"expected an element and one of S, P, SP, D, F, G, H, I, K, got "
                f"{_short(' '.join([symbol, *words]))}; write it as in NWChem"
            )
        self.targets = [[_LETTERS.index(letter)] for letter in letters]
        self.shells.setdefault(symbol, []).extend(self.targets)

    def _shell_row(self, words: list[str]) -> None:
        if not self.targets:
            raise InputError(f"expected 'ELEMENT S' or such, got {_short(' '.join(words))}")
        exponent, *coefficients = map(_number, words)
        known = len(self.targets[0][1]) - 1 if len(self.targets[0]) > 1 else None
        wanted = len(self.targets) if len(self.targets) > 1 else known
        if exponent <= 0 or not coefficients or wanted not in (None, len(coefficients)):
            count = "one or more" if wanted is None else str(wanted)
            raise InputError(
                f"expected a positive exponent and {count} coefficients, got "
                f"{_short(' '.join(words))}; correct the line"
            )
        if len(self.targets) == 1:
            self.targets[0].append([exponent, *coefficients])
            return
        for target, coefficient in zip(self.targets, coefficients, strict=True):
            target.append([exponent, coefficient])

    def _ecp_head(self, symbol: str, words: list[str]) -> None:
        key = words[0].upper() if words else ""
        self.powers = None
        if key == "NELEC" and len(words) == 2 and re.fullmatch(r"\d{1,3}", words[1]):
            if int(words[1]) > _ELEMENTS.index(symbol) + 1:
                raise InputError(f"expected fewer electrons than {symbol} has, got {words[1]}")
            self.ecps.setdefault(symbol, [0, []])[0] = int(words[1])
            return
        if len(words) != 1 or (key != "UL" and (len(key) != 1 or key not in _LETTERS)):
            raise InputError(
                f"expected 'nelec N', 'ul' or one of S, P, D, ... behind the element, got "
                f"{_short(' '.join(words))}; write it as in NWChem"
            )
        self.powers = [[] for _ in range(_POWERS)]
        l = -1 if key == "UL" else _LETTERS.index(key)
        self.ecps.setdefault(symbol, [0, []])[1].append([l, self.powers])

    def _ecp_row(self, words: list[str]) -> None:
        assert self.powers is not None
        if len(words) != 3 or not re.fullmatch(rf"[0-{_POWERS - 1}]", words[0]):
            raise InputError(
                f"expected a power of r from 0 to {_POWERS - 1}, an exponent and a coefficient, "
                f"got {_short(' '.join(words))}; correct the line"
            )
        exponent, coefficient = _number(words[1]), _number(words[2])
        if coefficient != 0:
            self.powers[int(words[0])].append([exponent, coefficient])

    def finish(self) -> BasisSet:
        if not self.shells:
            raise InputError("expected functions in NWChem's format, got none; check the text")
        for symbol, shells in self.shells.items():
            for shell in shells:
                if not any(c != 0 for row in shell[1:] for c in row[1:]):
                    raise InputError(
                        f"expected exponents and coefficients for every shell, one "
                        f"{_LETTERS[shell[0]]} shell of {symbol} has none; complete it"
                    )
        for _, terms in self.ecps.values():
            terms.sort(key=lambda term: term[0])
        return BasisSet(self.shells, self.ecps)


def _number(word: str) -> float:
    if len(word) > 64 or not _NUMBER.fullmatch(word):
        raise InputError(f"expected a number, got {_short(word)}; correct it")
    value = float(word.upper().replace("D", "E"))
    if not math.isfinite(value):
        raise InputError(f"expected a finite number, got {_short(word)}; correct it")
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def written(basis: BasisSet, name: str) -> str:
    """The text of a basis set, the same for the same numbers.

    Args:
        basis: The numbers.
        name: What people call it; goes into the first line.

    Returns:
        NWChem's format.
    """
    lines = [f"# {_plain_name(name)}", 'BASIS "ao basis" SPHERICAL']
    for symbol, shells in sorted(basis.shells.items()):
        lines.append(f"#BASIS SET: {symbol}")
        for l, *rows in shells:
            lines.append(f"{symbol} {_LETTERS[l]}")
            lines += [" ".join(map(repr, row)) for row in rows]
    lines.append("END")
    if basis.ecps:
        lines.append("ECP")
    for symbol, (nelec, terms) in sorted(basis.ecps.items()):
        lines.append(f"{symbol} nelec {nelec}")
        for l, powers in terms:
            lines.append(f"{symbol} {'ul' if l < 0 else _LETTERS[l]}")
            lines += [f"{n} {e!r} {c!r}" for n, rows in enumerate(powers) for e, c in rows]
    return "\n".join([*lines, *(["END"] if basis.ecps else []), ""])


def canonical(text: str, name: str | None = None) -> str:
    """A text in the one way it is kept in settings, models and labels.

    Args:
        text: NWChem's format.
        name: What people call it; None: its first comment.

    Returns:
        Text with the same numbers, as :func:`written` gives it.

    Raises:
        InputError: If it is no such text.
    """
    return written(parse_basis(text), _name_in(text) if name is None else name)


def for_elements(basis: str, symbols: Collection[str]) -> str:
    """A basis set with these elements only; a name is left as it is."""
    if not is_text(basis):
        return basis
    whole = parse_basis(basis)
    parts = ({s: v for s, v in d.items() if s in symbols} for d in (whole.shells, whole.ecps))
    return written(BasisSet(*parts), _name_in(basis))


def label_of(basis: str) -> str:
    """A name for people: of a text, what it is called and a few digits of its checksum."""
    if not is_text(basis):
        return basis
    body = "\n".join(line for line in basis.splitlines() if not line.startswith("#"))
    return f"{_name_in(basis)} [{hashlib.sha256(body.encode()).hexdigest()[:8]}]"


def same_basis(one: str, other: str) -> bool:
    """Whether two settings mean one basis set, as far as both have the elements."""
    if is_text(one) and is_text(other):
        mine, theirs = parse_basis(one), parse_basis(other)
        both = mine.shells.keys() & theirs.shells.keys()
        return bool(both) and all(
            mine.shells[s] == theirs.shells[s] and mine.ecps.get(s) == theirs.ecps.get(s)
            for s in both
        )
    return one == other or _folded(one) == _folded(other)


def _folded(name: str) -> str:
    """A name as PySCF compares it."""
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


def _name_in(text: str) -> str:
    first = text.lstrip().split("\n", 1)[0]
    return _plain_name(first[1:]) if first.startswith("#") else "text"


def _plain_name(name: str) -> str:
    kept = " ".join("".join(c if c.isprintable() else " " for c in name.replace("#", " ")).split())
    return kept[:_MAX_NAME] or "text"
