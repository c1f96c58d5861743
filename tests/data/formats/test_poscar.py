"""POSCAR files against ASE's reader, and the line of each fault."""

import io

import ase.io
import numpy as np
import pytest

from deeph_zero.data.formats.poscar import parse_poscar, write_poscar
from deeph_zero.errors import InputError

LINES = [
    "title", "1.0", "3.1 0.1 0.0", "0.2 3.3 -0.1", "0.0 0.4 5.0", "C H", "1 2", "Direct",
    "0.1 0.2 0.3 T T F", "0.5 0.6 0.7 T T F", "0.9 0.05 0.4 F T T",
]  # fmt: skip


def text(**changes):
    lines = list(LINES)
    for number, line in changes.items():
        lines[int(number.removeprefix("line")) - 1] = line
    return "\n".join([*lines, ""])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"line2": "1.7"},
        {"line2": "-90.5"},  # the volume of the cell
        {"line8": "Cartesian"},
        {"line8": "cartesian", "line2": "0.8"},
        {"line8": "Selective dynamics\nDirect"},
        {"line6": "Cl Na", "line7": "2 1"},
    ],
)
def test_structures_are_ases(changes):
    content = text(**changes)
    numbers, coords, lattice = parse_poscar(content)
    atoms = ase.io.read(io.StringIO(content), format="vasp")
    assert numbers.tolist() == atoms.numbers.tolist()
    np.testing.assert_allclose(lattice, atoms.cell.array, atol=1e-12)
    np.testing.assert_allclose(coords, atoms.positions, atol=1e-12)


def test_names_of_potentials_are_elements():
    numbers, _, _ = parse_poscar(text(line6="c_sv H/abc"))
    assert numbers.tolist() == [6, 1, 1]


def test_there_and_back_to_the_last_digit():
    rng = np.random.default_rng(0)
    numbers, coords = np.array([8, 8, 1, 6, 6]), rng.normal(size=(5, 3))
    lattice = 5 * np.eye(3) + rng.normal(size=(3, 3))
    content = write_poscar(numbers, coords, lattice)
    found = parse_poscar(content)
    for one, other in zip(found, (numbers, coords, lattice), strict=True):
        np.testing.assert_array_equal(one, other)
    atoms = ase.io.read(io.StringIO(content), format="vasp")
    assert atoms.get_chemical_symbols() == ["O", "O", "H", "C", "C"]


WRONG = {
    "short": ("\n".join(LINES[:5]), "expected at least 8 lines, got 5"),
    "scale": (text(line2="x"), "POSCAR line 2: expected 1 numbers"),
    "no scale": (text(line2="0"), "expected a scale and a cell that are not 0"),
    "flat": (text(line5="3.3 3.4 -0.1"), "expected a scale and a cell that are not 0"),
    "vector": (text(line4="1 2"), "POSCAR line 4: expected 3 numbers"),
    "VASP 4": (text(line6="1 2"), "POSCAR line 6: expected element symbols, got '1 2'"),
    "ghost": (text(line6="X H"), "POSCAR line 6"),
    "none": (text(line6=""), "POSCAR line 6"),
    "counts": (text(line7="3"), "POSCAR line 7: expected the number of atoms of 2 elements"),
    "fraction": (text(line7="1 1.5"), "POSCAR line 7"),
    "negative": (text(line7="1 -2"), "POSCAR line 7"),
    "empty": (text(line7="0 0"), "POSCAR line 7"),
    "too many": (text(line7="1 9999999"), "POSCAR line 7"),
    "kind": (text(line8="0.1 0.2 0.3"), "POSCAR line 8: expected Direct or Cartesian"),
    "kind behind": (text(line8="Selective"), "POSCAR line 9: expected Direct or Cartesian"),
    "missing": (text(line7="1 20"), "expected positions of 21 atoms"),
    "position": (text(line10="0.1 a 0.3"), "POSCAR line 10: expected 3 numbers, got '0.1 a 0.3'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_faults_are_told_with_their_line(case):
    content, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        parse_poscar(content)
