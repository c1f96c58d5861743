"""Basis sets, fitting sets and pseudopotentials as numbers, by name or from their text.

PySCF takes the name of a file wherever it takes the name of a basis set, looks for one in the
working folder first, and evaluates what it finds there. Here a name is one of its library.
"""

import contextlib
import difflib
import functools
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from pyscf import gto
from pyscf.data import elements
from pyscf.gto.basis import ALIAS, GTH_ALIAS, _format_basis_name, parse_nwchem
from pyscf.lib.exceptions import BasisNotFoundError

from deeph_zero.ao.basis_text import Shells, is_text, label_of, looks_like_path, parse_basis
from deeph_zero.errors import InputError, argument

# ruff: noqa: SLF001  PySCF's name normalisation is private and has no public twin

# Families whose pseudopotential PySCF stores under another name than the basis set.
_ECP_FAMILY = re.compile(r"bfd|ccecp(he|reg|28|36)?")
_NO_FILE = " " * 5000
"""PySCF takes blanks out of names, and no file has a name as long as this."""
_LONGEST_NAME = 200
"""Characters of a name; the longest of the library has 40, and longer ones are no file's either."""
_UNKNOWN_BASIS = (
    BasisNotFoundError, LookupError, OSError, ValueError, AttributeError, AssertionError,
    TypeError,
)  # fmt: skip
"""AssertionError: "@3s2p" asks for more functions than the set has."""


def shells_of(basis: str, symbol: str) -> Shells | None:
    """The functions of an element.

    Args:
        basis: Name or text.
        symbol: Element.

    Returns:
        PySCF's form, None if the basis set has no such element (or is not known).

    Raises:
        InputError: If it is a text that cannot be read.
    """
    if not is_text(basis):
        return None if _is_file(basis) else _copy(_from_library(basis, symbol))
    found = parse_basis(basis).shells.get(symbol)
    if found is None:
        return None
    # what PySCF does with a file: the shells by l, those of the same exponents together
    shells = sorted(_copy(found) or [], key=lambda shell: shell[0])
    return parse_nwchem.remove_zero(parse_nwchem.optimize_contraction(shells))


def ecp_of(basis: str, symbol: str) -> list:
    """The pseudopotential of an element, empty without; some replace no electron (ccECP hydrogen).

    Args:
        basis: Name or text.
        symbol: Element.

    Returns:
        PySCF's form.

    Raises:
        InputError: If it is a text that cannot be read.
    """
    if is_text(basis):
        return parse_basis(basis).ecps.get(symbol, [])
    return _ecp_from_library(basis, symbol)


def in_numbers(basis: Any, symbols: Mapping[str, str]) -> Any:
    """What PySCF takes as a basis, with the numbers in the place of names.

    Args:
        basis: Name, text, PySCF's dictionary or parsed functions.
        symbols: Element of every label of an atom.

    Returns:
        A dictionary by labels of atoms; what is no name or text is left as it is.

    Raises:
        InputError: If a text cannot be read.
    """
    if isinstance(basis, str):
        basis = dict.fromkeys(symbols, basis)
    if not isinstance(basis, dict):
        return basis
    found = {}
    for label, value in basis.items():
        named = isinstance(value, str) and value != "autoaux" and label in symbols
        found[label] = (shells_of(value, symbols[label]) or value) if named else value
    return found


def nelec_core(basis: str, z: int) -> int:
    """Electrons of element ``z`` that the basis set's pseudopotential replaces (0 without one)."""
    data = ecp_of(basis, elements.ELEMENTS[z])
    return int(data[0]) if data else 0


def electrons_beside_cores(numbers: Iterable[int], basis: str) -> int:
    """Electrons of the neutral atoms that a basis set leaves to be computed.

    Args:
        numbers: Atomic numbers.
        basis: Name or text.

    Returns:
        The sum of the atomic numbers, less what pseudopotentials replace.

    Raises:
        InputError: If the basis set is a text that cannot be read.
    """
    return sum(int(z) - nelec_core(basis, int(z)) for z in numbers)


def in_library(name: str) -> bool:
    """Whether PySCF has a basis set of this name, whatever files there are."""
    plain = _format_basis_name(name.split("@", maxsplit=1)[0])
    return plain in ALIAS or plain in GTH_ALIAS or gto.basis._is_pople_basis(plain)


def _copy(shells: Shells | None) -> Shells | None:
    """For callers that change what they get; what is kept must stay as it is."""
    if shells is None:
        return None
    return [[part if isinstance(part, int) else [*part] for part in shell] for shell in shells]


def _is_file(name: str) -> bool:
    """Whether PySCF would open a file for it; asked anew each time, for files come and go."""
    if looks_like_path(name) or len(name) > _LONGEST_NAME or in_library(name):
        return False
    return Path(name).exists() or Path(name.split("@", maxsplit=1)[0]).exists()


@functools.lru_cache(maxsize=512)
def _from_library(name: str, symbol: str) -> Shells | None:
    """Kept, because PySCF parses its text file anew each time."""
    if looks_like_path(name) or len(name) > _LONGEST_NAME:
        return None
    if in_library(name):
        name = _NO_FILE + name
    try:
        with quiet():
            return gto.basis.load(name, symbol) or None
    except _UNKNOWN_BASIS:
        return None


@functools.lru_cache(maxsize=512)
def _ecp_from_library(basis: str, symbol: str) -> list:
    name = _ecp_name(basis)
    if looks_like_path(name) or len(name) > _LONGEST_NAME:
        return []
    if _format_basis_name(name) in ALIAS:
        name = _NO_FILE + name
    elif Path(name).exists():
        return []
    try:
        with quiet():
            return gto.basis.load_ecp(name, symbol)
    except (RuntimeError, *_UNKNOWN_BASIS):
        # a Pople name holds no ECP section; the basis itself was checked before
        return []


def _ecp_name(basis: str) -> str:
    """Name under which PySCF keeps the pseudopotentials of this basis set."""
    family = _ECP_FAMILY.match(_format_basis_name(basis))
    return family.group() if family else basis


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence PySCF's advice to install basis-set-exchange when a set lacks an element.

    Yields:
        Nothing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def covers(basis: str, z: int) -> bool:
    """Whether a basis set has functions for element ``z``."""
    return bool(shells_of(basis, elements.ELEMENTS[z]))


def valid_basis(
    basis: str, numbers: Iterable[int] | Int[np.ndarray, " n"], *, where: str = ""
) -> None:
    """Check that a basis set is known, or can be read, and that it covers the elements.

    Args:
        basis: Name or text.
        numbers: Atomic numbers that must be covered.
        where: Start of the message (file and frame).

    Raises:
        InputError: Unknown name (the nearest known one is suggested), or an element it lacks.
    """
    _check_known(basis, numbers, "basis", where)


def valid_auxbasis(
    auxbasis: str, numbers: Iterable[int] | Int[np.ndarray, " n"], *, where: str = ""
) -> None:
    """Check a density-fitting set as a basis set; "autoaux" (generated) is always possible.

    Args:
        auxbasis: Name, text or "autoaux".
        numbers: Atomic numbers that must be covered.
        where: Start of the message (file and frame).

    Raises:
        InputError: Unknown name, or an element it lacks.
    """
    if auxbasis != "autoaux":
        _check_known(auxbasis, numbers, "auxbasis", where)


def _check_known(
    basis: str, numbers: Iterable[int] | Int[np.ndarray, " n"], name: str, where: str
) -> None:
    option = argument(name)
    if is_text(basis):
        try:
            parse_basis(basis)
        except InputError as error:
            raise InputError(f"{where}{option}, given as text: {error}") from None
    plain = _format_basis_name(basis)
    if plain.startswith("gth"):
        msg = (
            f"{where}expected an all-electron basis or one with an ECP, got {option} {basis!r}, "
            "which needs GTH pseudopotentials; use for example def2-svp"
        )
        raise InputError(msg)
    missing = [z for z in dict.fromkeys(int(z) for z in numbers) if not covers(basis, z)]
    if not missing:
        return
    # a name outside the library (Pople variant) exists if it has any common element
    known = is_text(basis) or plain in ALIAS
    if not known and not any(covers(basis, z) for z in (1, 6, 8, 26, 53)):
        raise InputError(
            f"{where}expected a basis set PySCF knows, got {option} {basis[:60]!r}; {_hint(basis)}"
        )
    names = ", ".join(elements.ELEMENTS[z] for z in missing)
    msg = (
        f"{where}basis set {label_of(basis)!r} has no functions for {names}; "
        f"choose another {option} (the def2 family covers H to Rn)"
    )
    raise InputError(msg)


def _hint(basis: str) -> str:
    """What to write in the place of an unknown name."""
    if looks_like_path(basis) or Path(basis).exists():
        return "is it a file? fit, label and convert read it; elsewhere give its text"
    near = _nearest_basis(_format_basis_name(basis))
    return f"did you mean {near!r}?" if near else "use a name from PySCF's basis library"


def _nearest_basis(plain: str) -> str | None:
    """Known basis set whose name is closest, in its usual spelling."""
    pretty = {name: meta[0] for name, meta in gto.mole.BSE_META.items()}
    known = {name for name in [*ALIAS, *pretty] if name in ALIAS or gto.basis._is_pople_basis(name)}
    match = difflib.get_close_matches(plain, sorted(known), n=1, cutoff=0.5)
    return pretty.get(match[0], match[0]).lower() if match else None
