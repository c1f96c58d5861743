"""Structures of this package's own HDF5: what is read, and what a damaged group says."""

import h5py
import numpy as np
import pytest

from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.own_files import hdf5_frames
from deeph_zero.errors import InputError
from deeph_zero.molecule import Molecule

NUMBERS = np.array([8, 1, 1])
COORDS = np.array([[0.0, 0, 0.2], [0, 1.4, 1.1], [0.1, -1.4, 1.1]])
LATTICE = np.array([[9.0, 0.2, 0], [0, 10, 0.3], [0.1, 0, 11]])


def write(path, name="0000", *, charge=0, spin=0, attributes=None, **arrays):
    """A group; None leaves a dataset or an attribute out."""
    given = {"numbers": NUMBERS, "positions": COORDS} | arrays
    facts = {"charge": charge, "spin": spin} | (attributes or {})
    with h5py.File(path, "a") as file:
        group = file.create_group(name)
        for key, value in given.items():
            if value is not None:
                group[key] = value
        group.attrs.update({key: value for key, value in facts.items() if value is not None})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.h5"


def only(path):
    (found,) = hdf5_frames(path)
    return found


def test_molecules_in_the_order_of_their_names(path):
    write(path, "0001", charge=-1, spin=1)
    write(path, "0000", numbers=NUMBERS.astype(np.uint8), positions=COORDS.astype(np.float32))
    first, second = hdf5_frames(path)
    assert (first.file, first.frame, second.frame) == (str(path), 0, 1)
    assert first.numbers.tolist() == [8, 1, 1]
    np.testing.assert_allclose(first.coords, COORDS, atol=1e-7)
    np.testing.assert_array_equal(second.coords, COORDS)  # bohr as it stands
    assert (second.charge, second.spin, second.periodic) == (-1, 1, False)


def test_crystals_and_layers(path):
    write(path, "0000", lattice=LATTICE)
    flat = np.diag([9.0, 10, 11])
    write(path, "0001", lattice=flat, pbc=[True, True, False], moments=[0.5, 0, -0.5])
    write(path, "0002", lattice=LATTICE, pbc=[False] * 3)
    crystal, layer, molecule = hdf5_frames(path)
    assert (crystal.pbc, crystal.moments) == ((True, True, True), None)
    np.testing.assert_allclose(crystal.lattice, LATTICE, atol=1e-14)
    assert (layer.pbc, layer.moments) == ((True, True, False), (0.5, 0.0, -0.5))
    assert not molecule.periodic


def test_datasets_beside_the_groups_are_no_structures(path):
    write(path)
    with h5py.File(path, "a") as file:
        file["notes"] = 3
    assert isinstance(only(path), Molecule)


DAMAGE = {
    "no numbers": ({"numbers": None}, "expected a data set 'numbers', got none"),
    "no positions": ({"positions": None}, "expected a data set 'positions', got none"),
    "a number": ({"numbers": 8}, "expected whole atomic numbers [natm]"),
    "real numbers": ({"numbers": NUMBERS + 0.5}, "expected whole atomic numbers [natm], got float"),
    "none": ({"numbers": NUMBERS[:0], "positions": COORDS[:0]}, "expected whole atomic numbers"),
    "ghost": ({"numbers": [0, 1, 1]}, "expected atomic numbers from 1 to 118, got others"),
    "heavy": ({"numbers": [8, 1, 119]}, "expected atomic numbers from 1 to 118"),
    "fewer": (
        {"positions": COORDS[:2]},
        "(bohr) of shape (3, 3), got float64 of shape (2",
    ),
    "flat": ({"positions": COORDS[:, :2]}, "expected positions (bohr) of shape (3, 3)"),
    "complex": ({"positions": COORDS + 0j}, "got complex128 of shape (3, 3)"),
    "no charge": ({"charge": None}, "expected the attribute 'charge', got none"),
    "half a charge": ({"charge": 0.5}, "charge"),
    "no spin": ({"spin": None}, "expected the attribute 'spin', got none"),
    "lattice": ({"lattice": LATTICE[:2]}, "expected lattice (bohr) of shape (3, 3), got (2, 3)"),
    "pbc": ({"lattice": LATTICE, "pbc": [True]}, "expected pbc of shape (3,), got (1,)"),
    "moments": ({"lattice": LATTICE, "moments": [1.0]}, "expected moments of each atom, got (1,)"),
    "nan": ({"lattice": LATTICE, "moments": [np.nan, 0, 0]}, "expected moments of each atom"),
    "wire": ({"lattice": LATTICE, "pbc": [True, False, False]}, "two or three directions"),
    "flat cell": ({"lattice": np.ones((3, 3))}, "span a volume"),
    "facts": ({"attributes": {"ao_order": "orca"}}, "expected ao_order 'pyscf', got 'orca'"),
    "path": ({"attributes": {"basis": "../a"}}, "expected basis, a name, got a path"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_group_costs_itself_only(path, case):
    changes, words = DAMAGE[case]
    write(path, "0000", **changes)
    write(path, "0001")
    bad, good = hdf5_frames(path)
    assert isinstance(bad, InputError)
    assert words in str(bad)
    assert "\n" not in str(bad)
    assert not str(bad).startswith(str(path))  # the reader of structures names it
    assert good.frame == 1


def test_data_outside_of_the_file_is_not_followed(path, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["fock"] = np.eye(3)
    write(path)
    with h5py.File(path, "a") as file:
        file["0000/fock"] = h5py.ExternalLink("other.h5", "fock")
    assert isinstance(only(path), InputError)


def test_files_without_structures(path, tmp_path):
    with h5py.File(path, "w"):
        pass
    with pytest.raises(WholeFileError, match="expected a group per structure, got none"):
        list(hdf5_frames(path))
    (tmp_path / "b.h5").write_bytes(b"text" * 100)
    with pytest.raises(WholeFileError, match="expected structures in HDF5, cannot read it"):
        list(hdf5_frames(tmp_path / "b.h5"))
    with pytest.raises(WholeFileError, match="cannot read it"):
        list(hdf5_frames(tmp_path / "none.h5"))
