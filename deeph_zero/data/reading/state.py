"""Charge and spin of a molecule from whatever way a file or an ASE object states them."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from deeph_zero.errors import InputError

Say = Callable[[str], None]
"""Takes a warning of one line."""

TITLE = "title"
"""Key of ``atoms.info`` for a title that may be ``charge multiplicity``, nothing else."""

_KINDS = {
    "charge": "charge totalcharge netcharge molecularcharge moleculecharge molcharge systemcharge "
    "formalcharge totalformalcharge chrg chg icharg totcharge totchg netchg ehtcharge "
    "pubchemtotalcharge",
    "spin": "spin ehtunpaired twos 2s uhf nopen unpaired nunpaired numunpaired unpairedelectrons "
    "nunpairedelectrons numunpairedelectrons numberofunpairedelectrons",
    "multiplicity": "multiplicity mult mul spinmultiplicity spinmult totalmultiplicity "
    "totalspinmultiplicity molecularmultiplicity 2s1",
    "electrons": "nelec nelectron nelectrons numelectrons numberofelectrons electrons nel",
}
_KIND = {name: kind for kind, names in _KINDS.items() for name in names.split()}
_LIKE = re.compile(
    r"charge|chrg|multiplic|spin|unpaired|magmom|magneticmoment|electron"
    r"|^(nelect|n(alpha|beta|up|down|dn))$"
)
_SHORT = {"q": "charge", "s": "spin", "ms": "spin", "sz": "spin"}
"""Keys too short to be certain of; a charge is what ``q`` means in titles of published sets."""
_TWO_INTEGERS = re.compile(r"\s*([+-]?\d{1,3})\s*[\s,;|/]\s*(\d{1,3})\s*")
_BEGINS = re.compile(r"\s*([+-]?\d)[ \t,;]+(\d)(?=[\s,;])")
_PROSE = {
    "charge": re.compile(
        r"(?i:\b(?:mono|di|tri)?(?:cation|anion)s?\b)|\b\d\+(?!\S)"
        r"|(?<!\S)\[?[A-Z][\w\]\[()^]*[+-](?!\S)"  # a formula with its charge
    ),
    "spin": re.compile(r"\b(?:doublet|triplet|quartet|quintet|sextet|septet)\b", re.IGNORECASE),
}
"""Words of a title that speak of a state without a number that could be used."""
_MINUS = "\u2212"
"""The typographic minus that texts copied from a page have."""
_MANY = 20
"""No molecule has such a charge: a short key means something else."""
_WHOLE = 0.02
"""Atomic charges are printed with few digits: a sum this near to a whole number is one."""
_ADDED = {"initial_charges": "charge", "formal_charges": "charge", "initial_magmoms": "spin"}
_RESULTS = {"charges": "charge", "magmoms": "spin", "magmom": "spin"}


class _Statement(NamedTuple):
    """One place that states a charge or a spin."""

    kind: str
    value: int
    words: str


def log_warning(message: str) -> None:
    """Say a warning through the package's logger.

    Args:
        message: One line.
    """
    logging.getLogger("deeph_zero").warning("%s", message)


def names_state(word: str) -> bool:
    """Whether a key or a word of a title names a charge or a spin.

    Args:
        word: The word; case, underscores and punctuation do not count.

    Returns:
        True if it is one of the names that are used.
    """
    return re.sub(r"[^a-z0-9]", "", word.lower()) in _KIND


def looks_like_state(word: str) -> bool:
    """Whether a key may speak of a charge or a spin, known or not.

    Args:
        word: The key.

    Returns:
        True if it is one of the names that are used, or sounds like one.
    """
    name = re.sub(r"[^a-z0-9]", "", word.lower())
    return name in _KIND or _LIKE.search(name) is not None


def is_result(name: str) -> bool:
    """Whether an array of numbers per atom may hold charges or moments.

    Args:
        name: Its name.

    Returns:
        True if the name says so; a single letter is enough beside atoms.
    """
    return name.lower() == "q" or looks_like_state(name)


def stated_state(atoms: ase.Atoms, say: Say = log_warning) -> tuple[int | None, int | None]:
    """Charge and spin as an object states them, in ``info`` or in arrays of its atoms.

    Keys of ``info`` count whatever their case and underscores: ``charge``, ``total_charge``, ...;
    ``spin``, ``uhf``, ``nopen``, ... (2S); ``multiplicity``, ``spin_multiplicity``, ... (2S + 1);
    ``nelec``, ... (electrons). So do the sums of ``initial_charges`` and ``initial_magmoms`` that
    are not all zero, and a title of two integers. What looks like a statement but cannot be used
    is said.

    Args:
        atoms: The molecule.
        say: Takes each warning, a line without the name of the file.

    Returns:
        Charge and 2S, None where nothing states it.

    Raises:
        InputError: If a statement is no whole number, or two of them contradict each other.
    """
    statements = [*_from_info(atoms, say), *_from_arrays(atoms, say)]
    charge, spin = (_agreed(kind, statements) for kind in ("charge", "spin"))
    title = _from_title(atoms, charge, spin, say)
    if title is not None:
        return title
    charge = _from_short(atoms, charge, spin, say)
    _say_prose(atoms, charge, spin, say)
    return charge, spin


def check_moments(atoms: ase.Atoms, charge: int, spin: int) -> None:
    """See whether unpaired electrons that initial magnetic moments state fit those of a molecule.

    Said here because nobody typed that spin: ASE's own molecules bring their moments.

    Args:
        atoms: The molecule.
        charge: The charge that is used.
        spin: The 2S that is used.

    Raises:
        InputError: If the number of electrons needs the other parity.
    """
    stated = next((s for s in _from_arrays(atoms, lambda _: None) if s.kind == "spin"), None)
    electrons = int(atoms.numbers.sum()) - charge
    if stated is not None and stated.value == spin and (electrons - spin) % 2:
        word = "odd" if electrons % 2 else "even"
        raise InputError(
            f"expected an {word} spin (2S) for {electrons} electrons (charge {charge}), got "
            f"{stated.words}, the initial magnetic moments of the atoms; correct them or take them "
            "out, or change the charge"
        )


def warn_of_results(atoms: ase.Atoms, charge: int, spin: int, say: Say = log_warning) -> None:
    """Say so where atomic charges or moments computed earlier add up to another state.

    Args:
        atoms: The molecule, with results of the file it was read from.
        charge: The charge that is used.
        spin: The 2S that is used.
        say: Takes each warning, a line without the name of the file.
    """
    for key, kind, value in _results(atoms):
        total = _total(value)
        used = charge if kind == "charge" else spin
        whole = None if total is None else _whole_near(total if kind == "charge" else abs(total))
        if whole not in (None, used):
            name = "charge" if kind == "charge" else "spin (2S)"
            say(
                f"{key} add up to {total:g} but are results, so {name} {used} is used; "
                f"write {kind}={whole} if that is meant"
            )


def _results(atoms: ase.Atoms) -> Iterator[tuple[str, str, Any]]:
    """Name, kind and values of atomic charges and moments that some calculation gave."""
    if isinstance(atoms.calc, SinglePointCalculator):  # a live one computes, states nothing
        for key, kind in _RESULTS.items():
            yield key, kind, atoms.calc.results.get(key)
    yield "magmom", "spin", atoms.info.get("magmom")
    for name, values in atoms.arrays.items():
        if name not in _ADDED and np.ndim(values) == 1 and is_result(name):
            is_charge = "charge" in name.lower() or name.lower() == "q"
            yield name, "charge" if is_charge else "spin", values


def _from_info(atoms: ase.Atoms, say: Say) -> Iterator[_Statement]:
    for key, value in _flat(atoms.info):
        name = re.sub(r"[^a-z0-9]", "", key.lower())
        kind = _KIND.get(name)
        if kind is None:
            if key != "magmom" and _LIKE.search(name) and (number := _number(value)) is not None:
                say(
                    f"{key}={number:g} is not used, its meaning is not certain; write charge=, "
                    "and spin= (2S) or multiplicity="
                )
        elif kind == "electrons":
            yield from _electrons(key, value, atoms, say)
        elif value is not None:
            yield _stated(kind, key, value)


def _flat(info: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Keys and values, those of ASE's databases (one level down) included."""
    for key, value in info.items():
        if isinstance(value, Mapping):
            if key in ("key_value_pairs", "data"):
                yield from _flat(value)
        elif isinstance(key, str):
            yield key, value


def _stated(kind: str, key: str, value: Any) -> _Statement:
    """A charge, a 2S or a multiplicity that must be a whole number."""
    number = whole_number(key, value)
    words = f"{key}={number}"
    if kind != "multiplicity":
        return _Statement(kind, number, words)
    if number < 1:
        raise InputError(f"expected {key}= of 1 or more, got {number}; correct it")
    return _Statement("spin", number - 1, f"{words} (2S = {number - 1})")


def whole_number(key: str, value: Any) -> int:
    """What a key of a frame states.

    Args:
        key: Its name, for the message.
        value: Its value as read.

    Returns:
        The whole number.

    Raises:
        InputError: If it is none.
    """
    cure = f"expected {key}= with a whole number, got"
    if isinstance(value, bool | np.bool_):
        # the comment line is split into words, so "... total charge -1" arrives as a bare word
        word = key.strip("-:;,.{}()[]\"' ") or key
        raise InputError(
            f"expected {word}= with a whole number, got the bare word {word!r}; write "
            f"{word}=NUMBER, or leave the word out of the title"
        )
    number = _number(value)
    if number is None or not number.is_integer() or abs(number) > 1e6:
        raise InputError(f"{cure} {_quote(str(value))}; correct it")
    return int(number)


def _electrons(key: str, value: Any, atoms: ase.Atoms, say: Say) -> Iterator[_Statement]:
    """A number of electrons, or PySCF's pair (alpha, beta)."""
    pair = np.asarray(value).ravel() if not isinstance(value, str) else np.array([])
    numbers = [_number(v) for v in pair] if len(pair) == 2 else [_number(value)]
    if isinstance(value, bool | np.bool_):
        return  # a word of prose
    if any(n is None or not n.is_integer() for n in numbers):
        say(
            f"{key}={_quote(str(value))} is not used, expected a whole number of electrons; "
            "write charge="
        )
        return
    whole = [int(n) for n in numbers if n is not None]
    charge = int(atoms.numbers.sum()) - sum(whole)
    yield _Statement("charge", charge, f"{key}={sum(whole)} (charge {charge})")
    if len(whole) == 2:
        spin = whole[0] - whole[1]
        yield _Statement("spin", spin, f"{key} (2S = {spin})")


def _from_arrays(atoms: ase.Atoms, say: Say) -> Iterator[_Statement]:
    for name, kind in _ADDED.items():
        values = atoms.arrays.get(name)
        if values is None or not np.any(values):
            continue  # ASE's writers and readers put zeros where nothing is stated
        total = _total(values) if np.ndim(values) == 1 else None
        whole = None if total is None else _whole_near(total)
        if whole is None:
            what = "are vectors (non-collinear)" if total is None else f"add up to {total:g}"
            say(f"{name} {what} and are not used; write {kind}=")
            continue
        value = abs(whole) if kind == "spin" else whole
        yield _Statement(kind, value, f"the sum {whole} of {name}")


def _from_title(
    atoms: ase.Atoms, charge: int | None, spin: int | None, say: Say
) -> tuple[int, int] | None:
    """Charge and 2S of a title like "0 3", when it can be nothing else."""
    title = _title(atoms)
    found = _TWO_INTEGERS.fullmatch(title)
    if found is None:
        return None
    stated, multiplicity = int(found[1]), int(found[2])
    electrons = int(atoms.numbers.sum()) - stated
    quoted = _quote(title)
    cure = "write charge= and multiplicity="
    if not _fits(electrons, multiplicity):
        say(
            f"the title {quoted} is not used: as charge and multiplicity it does not fit "
            f"{electrons} electrons; {cure} if it is meant so"
        )
        return None
    if charge not in (None, stated) or spin not in (None, multiplicity - 1):
        say(f"the title {quoted} is not used: the frame states its charge or spin in another way")
        return None
    say(f"the title {quoted} is read as charge {stated}, multiplicity {multiplicity}")
    return stated, multiplicity - 1


def _title(atoms: ase.Atoms) -> str:
    title = atoms.info.get(TITLE)
    return title.replace(_MINUS, "-") if isinstance(title, str) else ""


def _fits(electrons: int, multiplicity: int) -> bool:
    enough = electrons > 0 and 1 <= multiplicity <= electrons + 1
    return enough and not (electrons - multiplicity + 1) % 2


def _from_short(atoms: ase.Atoms, charge: int | None, spin: int | None, say: Say) -> int | None:
    """The charge, from a key ``q`` where no other states it; other short keys are said."""
    for key, value in _flat(atoms.info):
        kind = _SHORT.get(key.lower())
        number = _number(value)
        if kind is None or number is None or (charge if kind == "charge" else spin) is not None:
            continue
        if kind == "charge" and number.is_integer() and abs(number) < _MANY:
            charge = int(number)
            if charge:
                say(f"{key}={charge} is read as the charge")
        elif number:
            say(f"{key}={number:g} is not used, its meaning is not certain; write {kind}=")
    return charge


def _say_prose(atoms: ase.Atoms, charge: int | None, spin: int | None, say: Say) -> None:
    """Say so where a title speaks of another state than what can be read from the frame."""
    title = _title(atoms)
    begins = _BEGINS.match(title)
    if begins is not None and charge is None and spin is None:
        stated, multiplicity = int(begins[1]), int(begins[2])
        fits = _fits(int(atoms.numbers.sum()) - stated, multiplicity)
        if fits and (stated, multiplicity) != (0, 1):
            say(
                f"the beginning of the title {_quote(title)} is not used; if it is charge and "
                "multiplicity, write charge= and multiplicity="
            )
    for kind, known in (("charge", charge), ("spin", spin)):
        word = _PROSE[kind].search(title)
        if word is not None and known is None:
            say(f"the title's word {word[0]!r} is not used; write {kind}= if it is meant")


def _agreed(kind: str, statements: list[_Statement]) -> int | None:
    """The one value that all statements of a kind give."""
    ours = [s for s in statements if s.kind == kind]
    for other in ours[1:]:
        if other.value != ours[0].value:
            name = "charge" if kind == "charge" else "spin"
            raise InputError(
                f"expected one {name}, got {ours[0].words} and {other.words}; correct one of them"
            )
    return ours[0].value if ours else None


def _total(values: Any) -> float | None:
    """Sum of atomic numbers, None if they are none or not finite."""
    try:
        total = float(np.asarray(values, dtype=np.float64).sum()) if values is not None else None
    except (TypeError, ValueError):
        return None
    return total if total is not None and np.isfinite(total) else None


def _whole_near(number: float) -> int | None:
    return round(number) if abs(number - round(number)) <= _WHOLE else None


def _number(value: Any) -> float | None:
    """A number, whatever it is wrapped in; None if it is none, a truth value, or not finite."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    if isinstance(value, bool | np.bool_ | complex | np.complexfloating) or value is None:
        return None
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        value = value.strip(" ,;").replace(_MINUS, "-")
        if "_" in value:  # Python reads 1_0 as 10
            return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None


def _quote(text: str) -> str:
    """A short, printable quotation of what came."""
    short = " ".join(text.split())
    return repr(short if len(short) <= 40 else short[:37] + "...")
