"""A structure as numbers: what it says of itself."""

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
