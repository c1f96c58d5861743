"""Formats that ASE reads: states, several structures, and no liberties with numbers."""

import ase.io
import pytest
from ase import Atoms
from ase.db import connect

from deeph_zero.data.structures import read_structures

from .records import NEUTRAL, assert_water, save

GOOD = {
    "gen": (
        "a.gen",
        "3 C\nO H\n1 1 0 0 0.1\n2 2 0 0.76 0.58\n3 2 0.05 -0.74 0.61\n" * 2,
        NEUTRAL * 2,
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_all_records_with_their_charge_and_spin(tmp_path, case):
    assert_water(*GOOD[case], tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.gen", "2 C\nO H\n1 1 0 0 0\n2 2 0 0 1_0\n", "expected numbers, got '1_0'"),
        ("a.txt", "atom 0 0 0 O\natom 0 0 1_0 H\n", "expected numbers, got '1_0'"),
        ("POSCAR", "1" * 400, "number of atoms"),
    ],
)
def test_formats_of_ase_take_no_liberties(tmp_path, name, text, words):
    molecules, bad = read_structures([save(tmp_path, name, text)])
    assert molecules == []
    assert words in str(bad[0])


def test_a_database_of_ase_states_charge_and_spin(tmp_path):
    atoms = Atoms("O2", [[0, 0, 0], [0, 0.1, 1.2]])
    for name in ("a.db", "a.json"):
        with connect(tmp_path / name) as database:
            database.write(atoms, charge=1, multiplicity=2)
            database.write(atoms, data={"charge": -1, "spin": 3})
            atoms.set_initial_magnetic_moments([1, 1])
            database.write(atoms)
            atoms.set_initial_magnetic_moments(None)
        molecules, bad = read_structures([tmp_path / name])
        assert bad == []
        assert [(m.charge, m.spin) for m in molecules] == [(1, 1), (-1, 3), (0, 2)]


def test_moments_of_a_trajectory(tmp_path):
    atoms = Atoms("O2", [[0, 0, 0], [0, 0.1, 1.2]])
    atoms.set_initial_magnetic_moments([1, 1])
    for name in ("a.traj", "a.extxyz"):
        ase.io.write(tmp_path / name, [atoms, atoms])
        molecules, bad = read_structures([tmp_path / name])
        assert ([m.spin for m in molecules], bad) == ([2, 2], [])


def test_a_molecule_in_a_box_is_said(tmp_path, caplog):
    path = tmp_path / "a.traj"
    ase.io.write(path, Atoms("O2", [[0, 0, 0], [0, 0.1, 1.2]], cell=[9, 9, 9]))
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, _ = read_structures([path])
    assert len(molecules) == 1
    assert ["cell is not used" in r.getMessage() for r in caplog.records] == [True]


def test_the_box_of_a_cube_is_said(tmp_path, caplog):
    text = "a\nb\n 1 0 0 0\n 2 3 0 0\n 1 0 6 0\n 1 0 0 6\n 2 2.0 0 0 0\n 1 1\n"
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, bad = read_structures([save(tmp_path, "a.cube", text)], crystals=True)
    assert (len(molecules), bad) == (1, [])
    assert ["write .xyz if it is a molecule" in r.getMessage() for r in caplog.records] == [True]
