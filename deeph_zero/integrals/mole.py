"""From our Molecule to a PySCF Mole: basis sets, pseudopotentials, fitting sets, input checks.

Everything a user can get wrong about a structure or a basis set is found here, before any
integral is computed.
"""

import contextlib
import dataclasses
import difflib
import functools
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Int
from pyscf import df, dft, gto
from pyscf.data import elements
from pyscf.gto.basis import ALIAS, _format_basis_name
from pyscf.lib.exceptions import BasisNotFoundError

from deeph_zero.errors import InputError
from deeph_zero.integrals.orbitals import charge_of, check_orbitals
from deeph_zero.molecule import Molecule
from deeph_zero.units import BOHR_IN_ANGSTROM

# ruff: noqa: SLF001  PySCF's name normalisation is private and has no public twin

MIN_DISTANCE_ANGSTROM = 0.1
"""Atoms closer than this are a mistake in the file, not chemistry."""

MAX_Z = 118

BasisInput: TypeAlias = str | dict | list | tuple | None
"""What PySCF takes as a basis: a name, a dictionary per element, parsed functions."""

# Families whose pseudopotential PySCF stores under another name than the basis set.
_ECP_FAMILY = re.compile(r"bfd|ccecp(he|reg|28|36)?")


@dataclasses.dataclass(frozen=True)
class AuxiliaryBasis:
    """A resolved fitting set.

    Attributes:
        name: Readable and recorded in every file: a basis name; "A:name,B:name" where elements
            differ; "even-tempered(9s7p5d)" for generated sets.
        mole: The auxiliary functions on the molecule's atoms.
    """

    name: str
    mole: gto.Mole


def place(molecule: Molecule) -> str:
    """The words every message about this structure starts with: "file frame i: "."""
    return f"{molecule.file} frame {molecule.frame}: " if molecule.file else ""


def build_mole(molecule: Molecule, *, basis: str, cart: bool = False) -> gto.Mole:
    """PySCF's Mole for a structure, with the pseudopotentials the basis set was made for.

    Elements for which the basis set defines an effective core potential (def2 beyond Kr, lanl2dz,
    ...) get it, so electron counts and charges are the valence ones.

    Args:
        molecule: Structure, bohr; ``spin`` is 2S.
        basis: Basis set name known to PySCF, or the path of a basis file in NWChem format.
        cart: Cartesian instead of spherical functions.

    Returns:
        Built Mole, quiet (``verbose=0``), coordinates identical to ``molecule.coords``.

    Raises:
        InputError: Unknown basis, missing element, impossible coordinates, charge or spin.
    """
    where = place(molecule)
    _check_atoms(molecule, where)
    valid_basis(basis, molecule.numbers, where=where)
    core = {z: nelec_core(basis, z) for z in {int(z) for z in molecule.numbers}}
    nuclear = sum(int(z) - core[int(z)] for z in molecule.numbers)
    _check_electrons(nuclear, molecule, where)
    symbols = [elements.ELEMENTS[int(z)] for z in molecule.numbers]
    ecp = {elements.ELEMENTS[z]: _ecp_name(basis) for z in core if _pseudopotential(basis, z)}
    mol = gto.Mole()
    mol.build(
        dump_input=False,
        parse_arg=False,
        verbose=0,
        atom=list(zip(symbols, np.asarray(molecule.coords, dtype=float).tolist(), strict=True)),
        unit="Bohr",
        basis=basis,
        ecp=ecp,
        charge=int(molecule.charge),
        spin=int(molecule.spin),
        cart=cart,
    )
    check_orbitals(mol.nelec, int(mol.nao_nr()), charge=mol.charge, where=where)
    return mol


def free_atoms(symbols: Sequence[str]) -> list[Molecule]:
    """One atom of every element named, neutral, in its lowest spin; one line on a wrong name."""
    unknown = [symbol for symbol in symbols if symbol not in elements.ELEMENTS[1:]]
    if unknown:
        raise InputError(
            f"[model] elements: expected element symbols, got {unknown[0]!r}; write for example "
            "['C', 'S']"
        )
    numbers = [elements.charge(symbol) for symbol in symbols]
    return [Molecule(numbers=np.array([z]), coords=np.zeros((1, 3)), spin=z % 2) for z in numbers]


def molecule_of(mol: gto.Mole) -> Molecule:
    """Atoms, charge and spin of a PySCF molecule (nuclear charges also where there is an ECP).

    Args:
        mol: Built molecule of real atoms.

    Returns:
        The structure, bohr.

    Raises:
        InputError: If there are no atoms, or ghost atoms.
    """
    if not mol.natm:
        raise InputError("expected a built gto.Mole with atoms, got none; call mol.build() first")
    numbers = [elements.charge(mol.atom_pure_symbol(k)) for k in range(mol.natm)]
    if 0 in numbers or any(mol.atom_charge(k) == 0 for k in range(mol.natm)):
        raise InputError("expected real atoms, got a ghost atom; a model knows none: remove it")
    return Molecule(
        numbers=np.array(numbers, dtype=np.int64),
        coords=np.array(mol.atom_coords(), dtype=np.float64),
        charge=charge_of(mol),
        spin=int(mol.spin),
    )


def valid_basis(
    basis: str, numbers: Iterable[int] | Int[np.ndarray, " n"], *, where: str = ""
) -> None:
    """Check that PySCF knows a basis set and that it covers the elements.

    Args:
        basis: Name or path.
        numbers: Atomic numbers that must be covered.
        where: Start of the message (file and frame).

    Raises:
        InputError: Unknown name (the nearest known one is suggested), or an element it lacks.
    """
    _check_known(basis, numbers, "--basis", where)


def valid_auxbasis(
    auxbasis: str, numbers: Iterable[int] | Int[np.ndarray, " n"], *, where: str = ""
) -> None:
    """The same check for a density-fitting set; "autoaux" (generated) is always possible.

    Args:
        auxbasis: Name, path or "autoaux".
        numbers: Atomic numbers that must be covered.
        where: Start of the message (file and frame).

    Raises:
        InputError: Unknown name, or an element it lacks.
    """
    if auxbasis != "autoaux":
        _check_known(auxbasis, numbers, "--auxbasis", where)


def nelec_core(basis: str, z: int) -> int:
    """Electrons of element ``z`` that the basis set's pseudopotential replaces (0 without one)."""
    data = _pseudopotential(basis, z)
    return int(data[0]) if data else 0


def shell_ls(mol: gto.Mole) -> tuple[tuple[int, ...], ...]:
    """Angular momentum of every contracted shell, per atom, in PySCF's AO order.

    A generally contracted shell with n contractions counts n times, as it does among the AOs.
    """
    shells: list[list[int]] = [[] for _ in range(mol.natm)]
    for ib in range(mol.nbas):
        shells[mol.bas_atom(ib)] += [int(mol.bas_angular(ib))] * int(mol.bas_nctr(ib))
    return tuple(tuple(ls) for ls in shells)


def auxbasis_name(mol: gto.Mole, xc: str, auxbasis: BasisInput = None) -> str:
    """Readable name of the fitting set :func:`auxiliary_basis` resolves to."""
    return auxiliary_basis(mol, xc, auxbasis).name


def auxiliary_basis(mol: gto.Mole, xc: str, auxbasis: BasisInput = None) -> AuxiliaryBasis:
    """The fitting set for a basis and a functional, PySCF's own choice when none is named.

    The choice is what ``dft.RKS(mol, xc=xc).density_fit()`` makes, taken from PySCF's code: for
    the def2 family that is def2-universal-jfit with a pure functional and a jkfit set with a
    hybrid. Where PySCF's set lacks an element, that element gets ``df.make_auxbasis``'s.

    Args:
        mol: Built molecule.
        xc: Functional, PySCF's syntax.
        auxbasis: Name, PySCF basis dictionary, or None.

    Returns:
        Name and auxiliary Mole.

    Raises:
        InputError: ``auxbasis`` is unknown or lacks an element.
    """
    # ghost atoms carry fitting functions too: "ghost-He" counts as helium
    symbols = [elements._std_symbol_without_ghost(mol.atom_symbol(i)) for i in range(mol.natm)]
    numbers = [int(gto.charge(symbol)) for symbol in symbols]
    if isinstance(auxbasis, str):
        valid_auxbasis(auxbasis, numbers)
    elif auxbasis is None:
        auxbasis = dft.UKS(mol, xc=xc).density_fit().with_df.auxbasis
        if isinstance(auxbasis, str) and not all(_covers(auxbasis, z) for z in set(numbers)):
            with _quiet():
                auxbasis = df.make_auxbasis(mol, xc=xc)
    if auxbasis is None:
        with _quiet():  # what make_auxmol(mol, None) does, but we see the names
            auxbasis = df.make_auxbasis(mol)
    return AuxiliaryBasis(auxbasis_label(mol, auxbasis), df.make_auxmol(mol, auxbasis))


def auxbasis_label(mol: gto.Mole, auxbasis: BasisInput) -> str:
    """Readable name of a fitting set given as a name, a dictionary or parsed functions."""
    if isinstance(auxbasis, str):
        return auxbasis
    if not isinstance(auxbasis, dict):
        return _composition(mol, auxbasis)
    names = {}
    for symbol in dict.fromkeys(mol.atom_symbol(i) for i in range(mol.natm)):
        default = auxbasis.get("default")
        value = auxbasis.get(symbol, auxbasis.get(gto.mole._std_symbol(symbol), default))
        names[symbol] = value if isinstance(value, str) else _composition(mol, value)
    if len(set(names.values())) == 1:
        return next(iter(names.values()))
    return ",".join(f"{symbol}:{name}" for symbol, name in names.items())


def _composition(mol: gto.Mole, functions: BasisInput) -> str:
    """Label of functions that were generated rather than named: "even-tempered(9s7p5d)"."""
    parsed = mol.format_basis({"H": functions})["H"]
    counts: dict[int, int] = {}
    for shell in parsed:
        first = next(row for row in shell[1:] if not isinstance(row, int | np.integer))
        counts[shell[0]] = counts.get(shell[0], 0) + len(first) - 1
    content = "".join(f"{n}{'spdfghiklm'[l]}" for l, n in sorted(counts.items()))
    return f"even-tempered({content})"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence PySCF's advice to install basis-set-exchange when a set lacks an element."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _pseudopotential(basis: str, z: int) -> list:
    """PySCF's ECP data, empty without; some replace no electron at all (ccECP hydrogen)."""
    try:
        with _quiet():
            return gto.basis.load_ecp(_ecp_name(basis), elements.ELEMENTS[z])
    except (BasisNotFoundError, RuntimeError, KeyError, OSError, IndexError, ValueError):
        # a file or Pople name holds no ECP section; the basis itself was checked before
        return []


def _ecp_name(basis: str) -> str:
    """Name under which PySCF keeps the pseudopotentials of this basis set."""
    family = _ECP_FAMILY.match(_format_basis_name(basis))
    return family.group() if family else basis


_UNKNOWN_BASIS = (
    BasisNotFoundError, LookupError, OSError, ValueError, AttributeError, AssertionError,
)  # fmt: skip
"""AssertionError: "@3s2p" asks for more functions than the set has."""


def _covers(basis: str, z: int) -> bool:
    """Whether PySCF can load this basis set for element ``z``."""
    if not Path(basis).is_file():
        return _in_library(basis, z)
    try:
        # PySCF gives an element missing in a file the functions of another one, silently
        return bool(gto.basis.parse_nwchem.load(basis, elements.ELEMENTS[z]))
    except _UNKNOWN_BASIS:
        return False


@functools.lru_cache(maxsize=512)
def _in_library(basis: str, z: int) -> bool:
    """The same for a name; kept, because PySCF parses its text file anew each time."""
    try:
        with _quiet():
            return bool(gto.basis.load(basis, elements.ELEMENTS[z]))
    except _UNKNOWN_BASIS:
        return False


def _check_known(
    basis: str, numbers: Iterable[int] | Int[np.ndarray, " n"], option: str, where: str
) -> None:
    plain = _format_basis_name(basis)
    if plain.startswith("gth"):
        msg = (
            f"{where}expected an all-electron basis or one with an ECP, got {option} {basis!r}, "
            "which needs GTH pseudopotentials; use for example def2-svp"
        )
        raise InputError(msg)
    missing = [z for z in dict.fromkeys(int(z) for z in numbers) if not _covers(basis, z)]
    if not missing:
        return
    # a name outside the library (Pople variant, file) exists if it has any common element
    if plain not in ALIAS and not any(_covers(basis, z) for z in (1, 6, 8, 26, 53)):
        near = _nearest_basis(plain)
        hint = f"did you mean {near!r}?" if near else "use a name from PySCF's basis library"
        if Path(basis).is_file():
            hint = "a file needs NWChem's format with a '#BASIS SET:' line before every element"
        msg = f"{where}expected a basis set PySCF knows, got {option} {basis!r}; {hint}"
        raise InputError(msg)
    names = ", ".join(elements.ELEMENTS[z] for z in missing)
    msg = (
        f"{where}basis set {basis!r} has no functions for {names}; "
        f"choose another {option} (the def2 family covers H to Rn)"
    )
    raise InputError(msg)


def _nearest_basis(plain: str) -> str | None:
    """Known basis set whose name is closest, in its usual spelling."""
    pretty = {name: meta[0] for name, meta in gto.mole.BSE_META.items()}
    known = {name for name in [*ALIAS, *pretty] if name in ALIAS or gto.basis._is_pople_basis(name)}
    match = difflib.get_close_matches(plain, sorted(known), n=1, cutoff=0.5)
    return pretty.get(match[0], match[0]).lower() if match else None


def _check_atoms(molecule: Molecule, where: str) -> None:
    if molecule.natm == 0:
        raise InputError(f"{where}expected at least one atom, got none; check the file")
    bad = [int(z) for z in molecule.numbers if not 1 <= int(z) <= MAX_Z]
    if bad:
        msg = f"{where}expected atomic numbers 1 to {MAX_Z}, got {bad[0]}; check the elements"
        raise InputError(msg)
    coords = np.asarray(molecule.coords, dtype=float)
    broken = np.flatnonzero(~np.isfinite(coords).all(axis=1))
    if broken.size:
        atom = int(broken[0])
        value = ", ".join(f"{x:g}" for x in coords[atom])
        msg = f"{where}expected finite coordinates, got ({value}) for atom {atom + 1}; fix the file"
        raise InputError(msg)
    if molecule.natm == 1:
        return
    first, second = np.triu_indices(molecule.natm, 1)
    distance = np.linalg.norm(coords[first] - coords[second], axis=1) * BOHR_IN_ANGSTROM
    k = int(distance.argmin())
    if distance[k] < MIN_DISTANCE_ANGSTROM:
        a, b = int(first[k]), int(second[k])
        pair = f"{a + 1} ({elements.ELEMENTS[int(molecule.numbers[a])]})"
        pair += f" and {b + 1} ({elements.ELEMENTS[int(molecule.numbers[b])]})"
        msg = (
            f"{where}atoms {pair} are {distance[k]:.3g} angstrom apart, practically on one point; "
            f"expected at least {MIN_DISTANCE_ANGSTROM} angstrom; check coordinates and units"
        )
        raise InputError(msg)


def _check_electrons(nuclear: int, molecule: Molecule, where: str) -> None:
    charge, spin = int(molecule.charge), int(molecule.spin)
    nelec = nuclear - charge
    if nelec <= 0:
        msg = (
            f"{where}expected at least one electron, got {nelec}: nuclear charge {nuclear} "
            f"with --charge {charge}; lower the charge"
        )
        raise InputError(msg)
    if spin < 0:
        msg = f"{where}expected --spin (2S, unpaired electrons) >= 0, got {spin}; drop the sign"
        raise InputError(msg)
    if (nelec - spin) % 2:
        need, word = nelec % 2, "odd" if nelec % 2 else "even"
        mistaken = 0 < spin <= nelec + 1  # a multiplicity given for 2S
        cure = f"multiplicity {spin} is --spin {spin - 1}" if mistaken else f"add --spin {need}"
        raise InputError(
            f"{where}the molecule has {nelec} electrons, which needs an {word} --spin (2S, the "
            f"multiplicity - 1); got spin {spin}; {cure} (in a file spin=), or change --charge"
        )
    if spin > nelec:
        msg = (
            f"{where}expected at most {nelec} unpaired electrons ({nelec} in all), got "
            f"--spin {spin}; lower it"
        )
        raise InputError(msg)
