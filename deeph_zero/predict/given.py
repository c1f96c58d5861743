"""Structures that Python users hand to a model: their charge and spin, and their contacts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import ase
import numpy as np
from pyscf import scf

from deeph_zero.data.contacts import check_contacts
from deeph_zero.data.reading.state import check_moments, stated_state
from deeph_zero.data.structures import from_atoms
from deeph_zero.errors import InputError
from deeph_zero.host.saying import say_once
from deeph_zero.model_files.meta import asked_state, state_line
from deeph_zero.molecule import Molecule, State
from deeph_zero.units import BOHR_IN_ANGSTROM


def atoms_in_state(
    atoms: ase.Atoms,
    state: State,
    *,
    charge: int | None = None,
    spin: int | None = None,
) -> Molecule:
    """The molecule of an ASE object; each thing there is to say about its state is said once.

    Args:
        atoms: The object; charge and spin that it states win over the model's.
        state: Charge and 2S of the model, for what neither the object nor the caller states.
        charge: As the caller states it.
        spin: As the caller states it, 2S.

    Returns:
        The molecule; contacts of its atoms were not checked.

    Raises:
        InputError: If it is no molecule we can treat, or the object and the caller contradict each
            other.
    """
    stated = stated_state(atoms, say_once)
    asked = _agreed("charge", stated[0], charge), _agreed("spin", stated[1], spin)
    say_once(state_line(state, charge=asked[0], spin=asked[1]))
    used = asked_state(state, charge=asked[0], spin=asked[1])
    check_moments(atoms, used.charge, used.spin)
    # without what was read from it already
    plain = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    return from_atoms(plain, charge=used.charge, spin=used.spin, allow_close_contacts=True)


def _agreed(name: str, stated: int | None, asked: int | None) -> int | None:
    if None not in (stated, asked) and stated != asked:
        raise InputError(
            f"{name}: expected the structure's own {stated}, got {asked} beside it; take one of "
            "them out"
        )
    return asked if stated is None else stated


def no_molecule(given: object) -> InputError:
    """What is said to someone who hands over something else than a molecule.

    Args:
        given: What came.

    Returns:
        The error; it says what to do with a mean-field object, a file, or several molecules.
    """
    cure = "build one of these"
    if isinstance(given, scf.hf.SCF):
        cure = "give mf.mol, or use model.as_scf(mf) or model.guess(mf)"
    elif isinstance(given, str | Path):
        cure = f"molecules, bad = dz.read_structures({str(given)!r}) reads them"
    elif isinstance(given, list | tuple):
        cure = "predict_all takes several"
    return InputError(
        f"expected a pyscf gto.Mole, an ase.Atoms or a deeph_zero Molecule, got "
        f"{type(given).__name__}; {cure}"
    )


def several(given: Any) -> list[Any]:
    """Molecules that a Python user hands over together.

    Args:
        given: Several of what a prediction takes, in any collection.

    Returns:
        The list; its members were not looked at.

    Raises:
        InputError: If it is one molecule, whose atoms ASE would go through, or no collection.
    """
    if isinstance(given, str | ase.Atoms) or not isinstance(given, Iterable):
        raise InputError(
            f"expected a list of molecules, got one {type(given).__name__}; put it into a list"
        )
    return list(given)


def checked_contacts(molecule: Molecule, *, insist: bool) -> Molecule:
    """The molecule, unless its atoms are nearer to each other than in any molecule.

    Args:
        molecule: The structure.
        insist: Take it nevertheless.

    Returns:
        The molecule, unchanged.

    Raises:
        InputError: If atoms are too near.
    """
    positions = molecule.coords * BOHR_IN_ANGSTROM
    check_contacts(molecule.numbers, positions, insist=insist, where=molecule.where)
    return molecule


def crystal_in_state(given: object, state: State) -> Molecule:
    """A crystal that a Python user hands over.

    Args:
        given: An ``ase.Atoms``, a built ``pbc.gto.Cell``, or a :class:`Molecule`.
        state: Charge and 2S of the model, for what an ASE object does not state.

    Returns:
        The structure; contacts of its atoms were checked.

    Raises:
        InputError: If it is something else, or no crystal that can be computed.
    """
    if hasattr(given, "lattice_vectors") and hasattr(given, "atom_coords"):
        return _crystal_of_cell(given)
    if isinstance(given, ase.Atoms):
        charge, spin = stated_state(given, say_once)
        used = asked_state(state, charge=charge, spin=spin)
        moments = given.get_initial_magnetic_moments()
        plain = ase.Atoms(given.numbers, given.positions, cell=given.cell, pbc=given.pbc)
        if moments.any():
            plain.set_initial_magnetic_moments(moments)
        given = from_atoms(plain, charge=used.charge, spin=used.spin, crystals=True)
    if not isinstance(given, Molecule) or not given.periodic:
        raise InputError(
            f"expected a crystal (a cell and pbc) for a model of crystals, got "
            f"{'a molecule' if isinstance(given, Molecule) else type(given).__name__}; set cell "
            "and pbc, or use a model of molecules"
        )
    return given


def _crystal_of_cell(cell: Any) -> Molecule:
    from pyscf.data.elements import charge

    moments = getattr(cell, "magmom", None)
    return Molecule(
        numbers=np.array([charge(cell.atom_pure_symbol(k)) for k in range(cell.natm)]),
        coords=np.asarray(cell.atom_coords()),
        charge=int(cell.charge),
        spin=int(cell.spin or 0),
        lattice=np.asarray(cell.lattice_vectors()),
        pbc=(True, True, cell.dimension == 3),
        moments=tuple(map(float, moments)) if moments is not None and any(moments) else None,
    )
