"""From our Molecule to a PySCF Mole: basis sets, pseudopotentials, fitting sets, input checks.

Everything a user can get wrong about a structure or a basis set is found here, before any
integral is computed.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from pyscf import df, dft, gto
from pyscf.data import elements

from deeph_zero.ao.basis_text import is_text, label_of
from deeph_zero.errors import InputError, argument
from deeph_zero.integrals.basis_sets import (
    covers,
    ecp_of,
    in_numbers,
    nelec_core,
    quiet,
    shells_of,
    valid_auxbasis,
    valid_basis,
)
from deeph_zero.integrals.orbitals import charge_of, check_orbitals
from deeph_zero.molecule import Molecule
from deeph_zero.units import BOHR_IN_ANGSTROM

# ruff: noqa: SLF001  PySCF's name normalisation is private and has no public twin

MIN_DISTANCE_ANGSTROM = 0.1
"""Atoms closer than this are a mistake in the file, not chemistry."""

MAX_Z = 118

BasisInput: TypeAlias = str | dict | list | tuple | None
"""What PySCF takes as a basis: a name, a dictionary per element, parsed functions."""


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


def symbols_of(molecule: Molecule) -> list[str]:
    """Element of every atom."""
    return [elements.ELEMENTS[int(z)] for z in molecule.numbers]


def build_mole(molecule: Molecule, *, basis: str, cart: bool = False) -> gto.Mole:
    """PySCF's Mole for a structure, with the pseudopotentials the basis set was made for.

    Elements for which the basis set defines an effective core potential (def2 beyond Kr, lanl2dz,
    ...) get it, so electron counts and charges are the valence ones.

    Args:
        molecule: Structure, bohr; ``spin`` is 2S.
        basis: Basis set name known to PySCF, or a basis set's text in NWChem's format.
        cart: Cartesian instead of spherical functions.

    Returns:
        Built Mole, quiet (``verbose=0``), coordinates identical to ``molecule.coords``.

    Raises:
        InputError: Unknown basis, missing element, impossible coordinates, charge or spin.
    """
    where = molecule.where
    _check_atoms(molecule, where)
    valid_basis(basis, molecule.numbers, where=where)
    core = {z: nelec_core(basis, z) for z in {int(z) for z in molecule.numbers}}
    nuclear = sum(int(z) - core[int(z)] for z in molecule.numbers)
    _check_electrons(nuclear, molecule, where)
    symbols = symbols_of(molecule)
    ecp = {symbol: data for symbol in set(symbols) if (data := ecp_of(basis, symbol))}
    mol = gto.Mole()
    mol.build(
        dump_input=False,
        parse_arg=False,
        verbose=0,
        atom=list(zip(symbols, np.asarray(molecule.coords, dtype=float).tolist(), strict=True)),
        unit="Bohr",
        basis={symbol: shells_of(basis, symbol) for symbol in set(symbols)},
        ecp=ecp,
        charge=int(molecule.charge),
        spin=int(molecule.spin),
        cart=cart,
    )
    check_orbitals(mol.nelec, int(mol.nao_nr()), charge=mol.charge, where=where)
    if not is_text(basis):
        mol.basis = basis  # by its name PySCF finds the fitting set
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


def basis_name(mol: gto.Mole) -> str:
    """The one name all atoms share, else "custom"."""
    given = set(map(str, mol.basis.values())) if isinstance(mol.basis, dict) else {str(mol.basis)}
    name = next(iter(given)) if len(given) == 1 else "custom"
    return name if isinstance(mol.basis, str | dict) and "[" not in name else "custom"


def shell_ls(mol: gto.mole.MoleBase) -> tuple[tuple[int, ...], ...]:
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
        auxbasis: Name, text, PySCF basis dictionary, or None.

    Returns:
        Name and auxiliary Mole.

    Raises:
        InputError: ``auxbasis`` is unknown or lacks an element.
    """
    # ghost atoms carry fitting functions too: "ghost-He" counts as helium
    symbols = _elements_of(mol)
    numbers = [int(gto.charge(symbol)) for symbol in symbols.values()]
    if isinstance(auxbasis, str):
        valid_auxbasis(auxbasis, numbers)
    else:
        auxbasis = auxbasis or _pyscfs_choice(mol, xc, numbers)
    numbers_only = in_numbers(auxbasis, symbols)
    return AuxiliaryBasis(auxbasis_label(mol, auxbasis), df.make_auxmol(mol, numbers_only))


def _pyscfs_choice(mol: gto.Mole, xc: str, numbers: Sequence[int]) -> BasisInput:
    """What ``density_fit()`` takes, or the names by elements where that lacks one."""
    try:
        auxbasis = dft.UKS(mol, xc=xc).density_fit().with_df.auxbasis
        with quiet():
            if isinstance(auxbasis, str) and not all(covers(auxbasis, z) for z in set(numbers)):
                auxbasis = df.make_auxbasis(mol, xc=xc)
            # what make_auxmol(mol, None) does, but we see the names
            return df.make_auxbasis(mol) if auxbasis is None else auxbasis
    except ValueError as error:  # it tries whether it can load the set, and opens files first
        raise InputError(
            f"{' '.join(str(error).split())[:60]}: PySCF takes a file of the working folder for a "
            "fitting set; rename the file, or work in another folder"
        ) from None


def fitting_functions(mol: gto.Mole, auxbasis: BasisInput) -> BasisInput:
    """A fitting set for ``mf.density_fit(auxbasis=...)``, which would look for a file of its name.

    Args:
        mol: Built molecule.
        auxbasis: Name, text, PySCF basis dictionary; None stays None.

    Returns:
        Functions by label of the atom.

    Raises:
        InputError: If a text cannot be read.
    """
    return None if auxbasis is None else in_numbers(auxbasis, _elements_of(mol))


def _elements_of(mol: gto.Mole) -> dict[str, str]:
    """Element of every label of an atom; of "ghost-He" it is helium."""
    labels = dict.fromkeys(mol.atom_symbol(i) for i in range(mol.natm))
    return {label: elements._std_symbol_without_ghost(label) for label in labels}


def auxbasis_label(mol: gto.Mole, auxbasis: BasisInput) -> str:
    """Readable name of a fitting set given as a name, a dictionary or parsed functions."""
    if isinstance(auxbasis, str):
        return label_of(auxbasis)
    if not isinstance(auxbasis, dict):
        return _composition(mol, auxbasis)
    names = {}
    for symbol in dict.fromkeys(mol.atom_symbol(i) for i in range(mol.natm)):
        value = _functions_of(symbol, auxbasis)
        names[symbol] = value if isinstance(value, str) else _composition(mol, value)
    if len(set(names.values())) == 1:
        return next(iter(names.values()))
    return ",".join(f"{symbol}:{name}" for symbol, name in names.items())


def _functions_of(label: str, basis: dict) -> BasisInput:
    """A dictionary's entry for an atom, in PySCF's order: its label, the default, its element."""
    default = basis.get("default")
    named = {gto.mole._atom_symbol(key): x for key, x in basis.items() if key != "default"}
    if default is not None and label not in named:
        return default
    bare = re.sub("^(X|GHOST)-", "", label)
    for name in (label, gto.mole._rm_digit(label), bare, gto.mole._rm_digit(bare)):
        if name in named:
            return named[name]
    raise InputError(
        f"expected {argument('auxbasis')} with functions for every atom, got none for {label}; "
        "add them, or a 'default'"
    )


def _composition(mol: gto.Mole, functions: BasisInput) -> str:
    """Label of functions that were generated rather than named: "even-tempered(9s7p5d)"."""
    parsed = mol.format_basis({"H": functions})["H"]
    counts: dict[int, int] = {}
    for shell in parsed:
        first = next(row for row in shell[1:] if not isinstance(row, int | np.integer))
        counts[shell[0]] = counts.get(shell[0], 0) + len(first) - 1
    content = "".join(f"{n}{'spdfghiklm'[l]}" for l, n in sorted(counts.items()))
    return f"even-tempered({content})"


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
            f"with {argument('charge', charge)}; lower the charge"
        )
        raise InputError(msg)
    if spin < 0:
        raise InputError(
            f"{where}expected {argument('spin')} (2S, unpaired electrons) >= 0, got {spin}; "
            "drop the sign"
        )
    if (nelec - spin) % 2:
        need, word = nelec % 2, "odd" if nelec % 2 else "even"
        mistaken = 0 < spin <= nelec + 1  # a multiplicity given for 2S
        cure = f"add {argument('spin', need)}"
        if mistaken:
            cure = f"multiplicity {spin} is {argument('spin', spin - 1)}"
        raise InputError(
            f"{where}the molecule has {nelec} electrons, which needs an {word} "
            f"{argument('spin')} (2S, the multiplicity - 1); got spin {spin}; {cure} (in "
            f"a file spin=), or change {argument('charge')}"
        )
    if spin > nelec:
        msg = (
            f"{where}expected at most {nelec} unpaired electrons ({nelec} in all), got "
            f"{argument('spin', spin)}; lower it"
        )
        raise InputError(msg)
