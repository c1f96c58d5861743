"""Which functions and which pseudopotential every element has: names and files made numbers."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ase.data import chemical_symbols

from deeph_zero.ao.basis_text import is_text, looks_like_path
from deeph_zero.data.radial.ion import AtomicOrbitals, read_ion
from deeph_zero.data.radial.upf import Pseudopotential, read_upf
from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.basis_sets import shells_of
from deeph_zero.integrals.periodic.checks import valence_of_basis
from deeph_zero.integrals.periodic.gth import gth_parameters, is_gth, valence_of

NO_PSEUDO = "none"
"""Word for nuclei whose whole potential is in the given one."""

_Of = TypeVar("_Of", AtomicOrbitals, Pseudopotential)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Basis:
    """The functions of every element.

    Attributes:
        label: What summaries call it.
        gaussian: PySCF's shells by element symbol; empty where the functions are numerical.
        numerical: Orbitals by atomic number; empty where the functions are Gaussians.
    """

    label: str
    gaussian: Mapping[str, list] = dataclasses.field(default_factory=dict)
    numerical: Mapping[int, AtomicOrbitals] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pseudopotentials:
    """What every element has in the place of its core.

    Attributes:
        label: What summaries call them.
        gth: PySCF's parameters by element symbol.
        upf: Projectors by atomic number.
    """

    label: str
    gth: Mapping[str, list]
    upf: Mapping[int, Pseudopotential]

    def valence(self, number: int) -> int:
        """Electrons of an atom beside the core."""
        if number in self.upf:
            return self.upf[number].valence
        parameters = self.gth.get(chemical_symbols[number])
        return number if parameters is None else valence_of(parameters)


def choose_pseudopotentials(words: Sequence[str], numbers: Iterable[int]) -> Pseudopotentials:
    """The pseudopotentials of a structure's elements.

    Args:
        words: UPF files, and at most one name of GTH's for the elements without a file; or "none".
        numbers: Atomic numbers of the structure.

    Returns:
        Their numbers.

    Raises:
        InputError: If a file cannot be read or is of no element of the structure, a name is not
            known, or an element has none.
    """
    wanted = sorted({int(z) for z in numbers})
    option = argument("pseudo")
    files = [w for w in words if w.lower() != NO_PSEUDO and not is_gth(w)]
    names = [w for w in words if w not in files]
    if len(set(names)) > 1:
        raise InputError(
            f"{option}: expected one name beside files, got {' and '.join(names)}; give one"
        )
    for word in files:
        if not (looks_like_path(word) or os.path.lexists(word)):
            raise InputError(
                f"{option}: expected a UPF file or a name such as gth-pbe, got {word[:60]!r}; "
                "correct it"
            )
    upf = _by_element(files, read_upf, wanted, option)
    left = [chemical_symbols[z] for z in wanted if z not in upf]
    name = names[0] if names else None
    if left and name is None:
        raise InputError(
            f"{option}: expected a pseudopotential for {', '.join(left)}, got none; give a UPF "
            "file for each element, a name such as gth-pbe, or none where the potential is that of "
            "the bare nuclei"
        )
    if name is not None and not left:
        raise InputError(
            f"{option} {name}: expected an element without a file, got none; leave it out"
        )
    gth = {}
    if name is not None and name.lower() != NO_PSEUDO:
        gth = {symbol: gth_parameters(name, symbol) for symbol in left}
    label = " ".join([*(Path(w).name for w in files), *names[:1]])
    return Pseudopotentials(label=label, gth=gth, upf=upf)


def choose_basis(
    words: Sequence[str],
    numbers: Iterable[int],
    pseudopotentials: Pseudopotentials,
    read_text: Callable[[str], str],
) -> Basis:
    """The functions of a structure's elements.

    Args:
        words: One name or one file of a Gaussian basis, or SIESTA's .ion files of all elements.
        numbers: Atomic numbers of the structure.
        pseudopotentials: For which a basis may be made, or not.
        read_text: Reads a file of Gaussians as a checked text.

    Returns:
        Their numbers.

    Raises:
        InputError: If one cannot be read, an element has none, or basis and pseudopotential are
            made for different numbers of electrons.
    """
    wanted = sorted({int(z) for z in numbers})
    option = argument("basis")
    ions = [w for w in words if w.lower().removesuffix(".gz").endswith(".ion")]
    if ions and len(ions) < len(words):
        other = next(w for w in words if w not in ions)
        raise InputError(
            f"{option}: expected numerical orbitals (.ion) of all elements or one Gaussian basis, "
            f"got both, {ions[0]} and {other}; give one kind"
        )
    if ions:
        return _numerical(ions, wanted, pseudopotentials, option)
    if len(set(words)) > 1:
        raise InputError(
            f"{option}: expected one Gaussian basis, got {words[0]} and {words[1]}; give one"
        )
    return _gaussian(words[0], wanted, pseudopotentials, option, read_text)


def _numerical(
    files: Sequence[str], wanted: list[int], pseudopotentials: Pseudopotentials, option: str
) -> Basis:
    found = _by_element(files, read_ion, wanted, option)
    missing = [chemical_symbols[z] for z in wanted if z not in found]
    if missing:
        raise InputError(
            f"{option}: expected a .ion file for {', '.join(missing)}, got none; give one for each "
            "element"
        )
    for z in wanted:
        _same_valence(z, round(found[z].valence), pseudopotentials, option)
    return Basis(label=" ".join(Path(f).name for f in files), numerical=found)


def _gaussian(
    word: str,
    wanted: list[int],
    pseudopotentials: Pseudopotentials,
    option: str,
    read_text: Callable[[str], str],
) -> Basis:
    text = word
    if looks_like_path(word) or (os.path.lexists(word) and not shells_of(word, "H")):
        text = read_text(word)
    shells = {}
    for z in wanted:
        symbol = chemical_symbols[z]
        found = shells_of(text, symbol)
        if not found:
            raise InputError(
                f"{option}: expected functions for {symbol}, {Path(word).name[:60]} has none; give "
                "another basis"
            )
        shells[symbol] = found
        made_for = None if is_text(text) else valence_of_basis(text, symbol)
        if made_for is not None:
            _same_valence(z, made_for, pseudopotentials, option)
    return Basis(label=Path(word).name if is_text(text) else word, gaussian=shells)


def _same_valence(z: int, made_for: int, pseudopotentials: Pseudopotentials, option: str) -> None:
    valence = pseudopotentials.valence(z)
    if made_for != valence:
        raise InputError(
            f"{option}: expected functions of {chemical_symbols[z]} for {valence} electrons, as "
            f"its pseudopotential has, got some for {made_for}; choose both for the same number"
        )


def _by_element(
    files: Sequence[str], read: Callable[[Path], _Of], wanted: list[int], option: str
) -> dict[int, _Of]:
    found: dict[int, _Of] = {}
    origin: dict[int, str] = {}
    for file in files:
        try:
            own = read(Path(file))
        except InputError as error:
            raise InputError(f"{option}: {error}") from None
        symbol = chemical_symbols[own.number]
        if own.number in found:
            raise InputError(
                f"{option}: expected one file of {symbol}, got {origin[own.number]} and {file}; "
                "leave one out"
            )
        if own.number not in wanted:
            raise InputError(
                f"{option}: {file} is of {symbol}, which is not in the structure; leave it out"
            )
        found[own.number], origin[own.number] = own, file
    return found
