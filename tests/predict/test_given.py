"""Structures that Python users hand over: whose charge and spin count, and what is no crystal."""

import re
from pathlib import Path

import ase.build
import numpy as np
import pytest
from pyscf.pbc import gto

from deeph_zero.data.structures import from_atoms
from deeph_zero.errors import InputError
from deeph_zero.molecule import Molecule, State
from deeph_zero.predict.given import (
    atoms_in_state,
    checked_contacts,
    crystal_in_state,
    no_molecule,
    several,
)
from deeph_zero.units import BOHR_IN_ANGSTROM

POSITIONS = [[0.0, 0, 0.1], [0.2, 0.1, 1.0]]


def hydroxyl(**info):
    atoms = ase.Atoms("OH", positions=POSITIONS)
    atoms.info.update(info)
    return atoms


@pytest.mark.parametrize(
    ("info", "asked", "expected"),
    [
        ({}, {}, (-1, 0)),
        ({"charge": 0, "spin": 1}, {}, (0, 1)),
        ({}, {"charge": 0, "spin": 1}, (0, 1)),
        ({"charge": 0, "spin": 1}, {"charge": 0}, (0, 1)),
        ({"charge": -1}, {"spin": 2}, (-1, 2)),
    ],
    ids=str,
)
def test_what_is_stated_comes_before_the_models_state(info, asked, expected):
    found = atoms_in_state(hydroxyl(**info), State(-1, 0), **asked)
    assert (found.charge, found.spin) == expected
    assert found.numbers.tolist() == [8, 1]
    np.testing.assert_allclose(found.coords * BOHR_IN_ANGSTROM, POSITIONS, atol=1e-12)


@pytest.mark.parametrize("name", ["charge", "spin"])
def test_two_statements_that_contradict_are_refused(name):
    stated = {"charge": -1, "spin": 0}
    with pytest.raises(InputError, match=rf"{name}: expected the structure's own .*, got 2 beside"):
        atoms_in_state(hydroxyl(**stated), State(-1, 0), **{name: 2})


@pytest.mark.parametrize("charge", [-1, 1])
def test_moments_that_do_not_fit_the_electrons_are_named(charge):
    cyanide = ase.build.molecule("CN")  # ASE's radical, a moment of 1
    assert atoms_in_state(cyanide, State(0, 0)).spin == 1
    words = r"got the sum 1 of initial_magmoms, the initial magnetic moments of the atoms; correct"
    with pytest.raises(InputError, match=words):
        atoms_in_state(cyanide, State(0, 0), charge=charge)
    with pytest.raises(InputError, match=words):
        from_atoms(cyanide, charge=charge)


def test_contacts_are_checked_once_and_on_request_not_at_all():
    close = ase.Atoms("OH", positions=[[0, 0, 0], [0, 0, 0.2]])
    found = atoms_in_state(close, State(-1, 0))
    with pytest.raises(InputError, match="angstrom"):
        checked_contacts(found, insist=False)
    assert checked_contacts(found, insist=True) is found
    fine = atoms_in_state(hydroxyl(), State(-1, 0))
    assert checked_contacts(fine, insist=False) is fine


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("hcn.xyz", r"got str; .* = dz\.read_structures\('hcn\.xyz'\) reads them"),
        (Path("hcn.xyz"), r"; .* = dz\.read_structures\('hcn\.xyz'\) reads them"),
        ([1, 2], "got list; predict_all takes several"),
        (3, "got int; build one of these"),
    ],
    ids=str,
)
def test_something_else_than_a_molecule_is_told_what_to_do(given, words):
    assert re.search(words, str(no_molecule(given)))


@pytest.mark.parametrize(
    "given", [hydroxyl(), Molecule(numbers=np.ones(1, int), coords=np.zeros((1, 3))), "OH"]
)
def test_one_molecule_is_no_list(given):
    with pytest.raises(InputError, match=r"got one \w+; put it into a list"):
        several(given)
    assert several(iter([given])) == [given]


# ---- crystals ------------------------------------------------------------------------------------

CELL = [[2.1, 0, 0], [0, 2.8, 0], [0, 0.1, 2.9]]


def chain(**settings):
    positions = [[0.05, 0, 0.1], [0.63, 0.37, 0.47]]
    return ase.Atoms("H2", positions=positions, **{"cell": CELL, "pbc": True} | settings)


def test_atoms_with_a_cell_are_a_crystal_in_the_models_state():
    found = crystal_in_state(chain(), State(1, 1))
    assert found.periodic
    assert (found.charge, found.spin, found.moments) == (1, 1, None)
    np.testing.assert_allclose(found.lattice * BOHR_IN_ANGSTROM, CELL, atol=1e-12)
    stated = chain()
    stated.info.update(charge=0, spin=2)
    assert crystal_in_state(stated, State(1, 1)).spin == 2


def test_moments_of_atoms_stay_theirs():
    atoms = chain()
    atoms.set_initial_magnetic_moments([1.0, -1.0])
    assert crystal_in_state(atoms, State(0, 0)).moments == (1.0, -1.0)


def test_a_crystal_stays_what_it_is():
    one = crystal_in_state(chain(), State(0, 0))
    assert crystal_in_state(one, State(3, 1)) is one


def built(**settings):
    cell = gto.Cell()
    cell.atom, cell.a, cell.verbose = "H 0.05 0 0.1; H1 0.63 0.37 0.47", CELL, 0
    cell.basis, cell.pseudo, cell.precision = "gth-szv", "gth-pade", 1e-4
    for name, value in settings.items():
        setattr(cell, name, value)
    return cell.build()


def test_a_cell_of_pyscf_gives_its_atoms_lattice_and_state():
    found = crystal_in_state(built(charge=1, spin=1), State(0, 0))
    wanted = crystal_in_state(chain(), State(1, 1))
    assert (found.charge, found.spin) == (1, 1)
    assert found.numbers.tolist() == [1, 1], "labels are no elements"
    np.testing.assert_allclose(found.coords, wanted.coords, atol=1e-7)
    np.testing.assert_allclose(found.lattice, wanted.lattice, atol=1e-7)
    assert found.pbc == (True, True, True)


def test_a_layer_of_pyscf_is_periodic_in_its_plane():
    assert crystal_in_state(built(dimension=2), State(0, 0)).pbc == (True, True, False)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Molecule(numbers=np.array([1]), coords=np.zeros((1, 3)), spin=1), "got a molecule"),
        (chain(cell=None, pbc=False), "got a molecule"),
        ("h2.xyz", "got str"),
        (None, "got NoneType"),
    ],
    ids=["molecule", "atoms", "text", "none"],
)
def test_what_is_no_crystal_is_refused(given, words):
    with pytest.raises(InputError, match=f"expected a crystal .*, {words}; set cell and pbc"):
        crystal_in_state(given, State(0, 0))


def test_a_crystal_of_atoms_that_touch_is_refused():
    atoms = chain()
    atoms.positions[1] = [0.05, 0, 0.2]
    with pytest.raises(InputError, match="angstrom"):
        crystal_in_state(atoms, State(0, 0))
