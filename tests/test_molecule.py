"""A structure as numbers: what it says of itself."""

import copy
import dataclasses

import jaxtyping
import numpy as np
import pytest

from deeph_zero.molecule import Molecule, State

NUMBERS, COORDS = np.array([8, 1, 1]), np.arange(9.0).reshape(3, 3)


def test_a_molecule_and_a_crystal():
    molecule = Molecule(numbers=NUMBERS, coords=COORDS)
    assert (molecule.natm, molecule.periodic, molecule.pbc) == (3, False, (False,) * 3)
    crystal = dataclasses.replace(
        molecule, lattice=np.diag([4.0, 5.0, 6.0]), pbc=(True, True, False)
    )
    assert crystal.periodic
    assert State(charge=-1) == (-1, 0)


@pytest.mark.parametrize(
    ("file", "frame", "where"),
    [("a.xyz", 4, "a.xyz frame 4: "), ("a.xyz", 0, "a.xyz frame 0: "), ("", 3, "")],
)
def test_messages_begin_with_the_file(file, frame, where):
    assert Molecule(numbers=NUMBERS, coords=COORDS, file=file, frame=frame).where == where


@pytest.mark.parametrize(
    "wrong",
    [
        {"coords": COORDS[:2]},
        {"coords": COORDS.ravel()},
        {"numbers": NUMBERS.astype(float)},
        {"lattice": np.eye(2)},
    ],
)
def test_wrong_shapes_are_found_by_the_tests(wrong):
    with pytest.raises(jaxtyping.TypeCheckError):
        Molecule(**{"numbers": NUMBERS, "coords": COORDS} | wrong)


WATER = Molecule(numbers=NUMBERS, coords=COORDS, file="a.xyz", frame=1)
CRYSTAL = dataclasses.replace(
    WATER, lattice=np.diag([4.0, 5.0, 6.0]), pbc=(True,) * 3, moments=(1.0, 0.0, 0.0)
)


@pytest.mark.parametrize("one", [WATER, CRYSTAL], ids=["molecule", "crystal"])
def test_the_same_structure_is_equal_wherever_it_came_from(one):
    other = dataclasses.replace(
        copy.deepcopy(one), numbers=NUMBERS.astype(np.int32), file="b.xyz", frame=7
    )
    assert other == one
    assert hash(other) == hash(one)
    assert one in [other]
    assert len({one, other}) == 1
    assert one != "a.xyz"


def test_the_sign_of_a_zero_is_no_difference():
    other = dataclasses.replace(WATER, coords=np.where(COORDS == 0, -0.0, COORDS))
    assert (other == WATER, hash(other) == hash(WATER)) == (True, True)


@pytest.mark.parametrize(
    "changed",
    [
        {"numbers": np.array([8, 1, 2])},
        {"numbers": NUMBERS[:2], "coords": COORDS[:2]},
        {"coords": COORDS + 1e-15 * np.eye(3)},
        {"charge": 1},
        {"spin": 2},
        {"lattice": np.diag([4.0, 5.0, 6.1])},
        {"lattice": None},
        {"pbc": (True, True, False)},
        {"moments": (0.0, 1.0, 0.0)},
    ],
)
def test_another_structure_is_not_equal(changed):
    assert dataclasses.replace(CRYSTAL, **changed) != CRYSTAL


def test_it_prints_in_a_line():
    assert repr(WATER) == "Molecule(H2O, charge=0, spin=0, file='a.xyz', frame=1)"
    large = Molecule(numbers=np.full(300, 6), coords=np.zeros((300, 3)), charge=-1)
    assert repr(large) == "Molecule(C300, charge=-1, spin=0)"
    assert repr(CRYSTAL) == (
        "Molecule(H2O, charge=0, spin=0, cell=4 x 5 x 6 bohr, pbc=(True, True, True), "
        "moments=[3], file='a.xyz', frame=1)"
    )
