"""Structures that Python users hand to a model: their charge and spin, and their contacts."""

import functools
import logging

import ase

from deeph_zero.contacts import check_contacts
from deeph_zero.integrals.mole import place
from deeph_zero.model_meta import state_line
from deeph_zero.molecule import Molecule
from deeph_zero.reading.state import stated_state
from deeph_zero.structures import from_atoms
from deeph_zero.units import BOHR_IN_ANGSTROM


def atoms_in_state(atoms: ase.Atoms, state: tuple[int, int]) -> Molecule:
    """The molecule of an ASE object; the first time that a model's state is taken, a line says so.

    Args:
        atoms: The object; charge and spin that it states win.
        state: Charge and 2S of the model.

    Returns:
        The molecule; contacts of its atoms were not checked.

    Raises:
        InputError: If it is no molecule we can treat.
    """
    molecule = from_atoms(atoms, charge=state[0], spin=state[1], allow_close_contacts=True)
    charge, spin = stated_state(atoms, lambda _: None)
    _say_once(state_line(state, charge=charge, spin=spin))
    return molecule


@functools.lru_cache
def _say_once(line: str | None) -> None:
    if line is not None:
        logging.getLogger("deeph_zero").warning(line)


def checked_contacts(molecule: Molecule, *, insist: bool) -> Molecule:
    """The molecule, unless its atoms are nearer to each other than in any molecule.

    Args:
        molecule: The structure.
        insist: Take it nevertheless.

    Returns:
        The same.

    Raises:
        InputError: If atoms are too near.
    """
    positions = molecule.coords * BOHR_IN_ANGSTROM
    check_contacts(molecule.numbers, positions, insist=insist, where=place(molecule))
    return molecule
