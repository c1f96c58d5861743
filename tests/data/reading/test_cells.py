"""Which frames are crystals, what their cells are, and which cells are refused."""

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list

from deeph_zero.data.structures import from_atoms, read_structures
from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM

CELL = [[3.2, 0.1, 0], [0.4, 3.5, 0.2], [-0.3, 0.6, 4.1]]
HI = "2\n{}\nH 0 0 0\nH 0 0.1 0.73\n"
BOX = 'Lattice="9 0 0 0 9 0 0 0 9"'


def crystal(**changes) -> ase.Atoms:
    settings = {"cell": CELL, "pbc": True} | changes
    return ase.Atoms("LiH", [[0.1, 0.2, 0.3], [1.7, 1.6, 2.2]], **settings)


@pytest.fixture
def read(tmp_path, caplog):
    """Reads a text: structures, errors, warnings."""

    def reading(text, name="h.xyz", **settings):
        path = tmp_path / name
        path.write_text(text)
        found, bad = read_structures([path], crystals=True, **settings)
        return found, [b.error for b in bad], [r.getMessage() for r in caplog.records]

    return reading


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("li.xyz", {"format": "extxyz"}), ("POSCAR", {"format": "vasp"}), ("li.cif", {}),
        ("li.traj", {}), ("li.gen", {}), ("li.xsf", {}), ("li.json", {}), ("li.db", {}),
        ("li.pdb", {}),
    ],
)  # fmt: skip
def test_formats_with_a_cell_are_crystals(name, settings, tmp_path):
    """Distances to all images are what they were: some formats turn the axes."""
    atoms = crystal()
    ase.io.write(tmp_path / name, atoms, **settings)
    (found,), bad = read_structures([tmp_path / name], crystals=True)
    assert not bad
    assert found.periodic
    assert found.pbc == (True, True, True)
    lattice = found.lattice * BOHR_IN_ANGSTROM
    np.testing.assert_allclose(lattice @ lattice.T, np.array(CELL) @ np.transpose(CELL), atol=5e-3)
    again = ase.Atoms(found.numbers, found.coords * BOHR_IN_ANGSTROM, cell=lattice, pbc=True)
    distances = [sorted(neighbor_list("d", a, 5.5)) for a in (atoms, again)]
    np.testing.assert_allclose(*distances, atol=5e-3)


def test_vectors_are_rows_in_bohr(read):
    text = HI.format('Lattice="9 1 2 0 8 0 0 0 7" units=bohr')
    (found,), _, _ = read(text)
    assert found.lattice.tolist() == [[9, 1, 2], [0, 8, 0], [0, 0, 7]]
    (again,), _, _ = read(text.replace(" units=bohr", ""))
    np.testing.assert_allclose(again.lattice * BOHR_IN_ANGSTROM, found.lattice)


@pytest.mark.parametrize(
    ("title", "word"),
    [
        (f'{BOX} pbc="F F F"', "the cell is not used"),
        ('pbc="T T T"', "pbc is not used"),
        ('lattice="9 0 0 0 9 0 0 0 9"', "lattice= is not used"),
        ('Cell="9 0 0 0 9 0 0 0 9"', "Cell= is not used"),
    ],
)
def test_a_molecule_in_a_box_is_said_once(title, word, read):
    (found,), bad, said = read(HI.format(title))
    assert not bad
    assert not found.periodic
    assert len(said) == 1
    assert word in said[0]


@pytest.mark.parametrize(
    ("title", "word"),
    [
        (f'{BOX} pbc="T F F"', "periodic in two or three directions"),
        (f'{BOX} pbc="T F T"', "vacuum along the third vector"),
        (f'{BOX} pbc="F T T"', "vacuum along the third vector"),
        ('Lattice="9 0 0 0 9 0 0 0 -9"', "right-handed"),
        ('Lattice="0 9 0 9 0 0 0 0 9"', "right-handed"),
        ('Lattice="9 0 0 0 9 0 0 0 -9" pbc="T T F"', "right-handed"),
        ('Lattice="9 0 0 0 9 0 9 9 0"', "span a volume"),
        ('Lattice="9 0 0 0 9 0 9 9 1e-9"', "span a volume"),
        ('Lattice="9 0 0 18 0 0 0 0 9" pbc="T T F"', "span a volume"),
        ('Lattice="9 0 0 0 9 0 nan 9 0"', "finite lattice"),
        ('Lattice="9 0 0 0 9 0 0 0 inf"', "finite lattice"),
        ('Lattice="9 0 0 0 9 0 0 0 0"', "0 0 0 (number 3)"),
        ('Lattice="9 0 0 0 9 0 0 0 1e9"', "lattice vectors of 0.4"),
        ('Lattice="9 0 0 0 9 0 0 0 0.1"', "lattice vectors of 0.4"),
        ('Lattice="9 0 0 0 0 9 0 9 0" pbc="T T F"', "in the xy plane"),
        ('Lattice="9 0 0 0 9 0 0 0 0.8"', "atoms 1 and 2"),
        ('Lattice="9 0 0 0 9 0 0 0.1 0.73"', "on one point"),
        ('Lattice="9 0 0 0 9 0 0 0 0.41"', "0.13 angstrom apart"),
        ('Lattice="9 0 0 0 9 0 0 0 9 1 2 3"', "9-long"),
    ],
)
def test_cells_that_cannot_be(title, word, read):
    found, bad, _ = read(HI.format(title))
    assert not found
    assert word in bad[0]
    assert "\n" not in bad[0]


def test_an_atom_and_its_own_image_are_too_near(read):
    text = 'Lattice="9 0 0 0 9 0 0 0 1"'
    _, (error,), _ = read(f"1\n{text}\nCl 0 0 0\n")
    assert "atom 1 (Cl) and its image" in error
    (found,), _, _ = read(f"1\n{text}\nCl 0 0 0\n", allow_close_contacts=True)
    assert found.periodic


def test_layers(read):
    (flat,), _, _ = read(HI.format('Lattice="9 0 0 1 8 0 0 0 0" pbc="T T F"'))
    assert flat.pbc == (True, True, False)
    assert not flat.lattice[2].any()
    (leaning,), _, said = read(HI.format('Lattice="9 0 0 1 8 0 0 3 9" pbc="T T F"'))
    np.testing.assert_allclose(leaning.lattice[2] * BOHR_IN_ANGSTROM, [0, 0, 9])
    assert "leans" in said[-1]
    graphene = from_atoms(ase.build.graphene(vacuum=6), crystals=True)
    assert graphene.pbc == (True, True, False)


def test_moments_of_each_atom_and_of_the_cell(read, caplog):
    atoms = crystal(magmoms=[2.0, -1.0])
    found = from_atoms(atoms, crystals=True)
    assert found.moments == (2.0, -1.0)
    assert found.spin == 1
    turned = from_atoms(crystal(magmoms=[1.0, -2.0]), crystals=True)
    assert (turned.moments, turned.spin) == ((-1.0, 2.0), 1)
    assert from_atoms(crystal(), crystals=True).moments is None
    assert not caplog.records
    text = f"2\n{BOX} Properties=species:S:1:pos:R:3:magmoms:R:1\nH 0 0 0 1.3\nH 3 3 3 .3\n"
    (uneven,), _, said = read(text)
    assert uneven.spin == 2
    assert len(said) == 2
    assert "magmoms are taken as the initial moments" in said[0]
    assert "add up to 1.6" in said[1]
    (stated,), _, said = read(text.replace("Prop", "spin=0 Prop"))
    assert stated.spin == 0
    text = text.replace("magmoms:R:1", "initial_magmoms:R:3").replace("1.3\n", "0 0 1\n")
    _, (error,), _ = read(text.replace(" .3\n", " 0 0 1\n"))
    assert "non-collinear" in error


def test_moments_of_other_atoms_are_refused():
    """An array of an object always has a row for each atom; what a calculator says may not."""
    for count in (0, 1):
        atoms = crystal()
        atoms.calc = SinglePointCalculator(atoms)
        atoms.calc.results["magmoms"] = np.ones(count)
        with pytest.raises(InputError, match=f"one number of magmoms for each atom, got {count};"):
            from_atoms(atoms, crystals=True)


CIF = """data_x
_cell_length_a 4
_cell_length_b 4.5
_cell_length_c 5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Na1 Na 0 0 0 {}
Cl1 Cl 0.5 0.5 0.5 1
"""


def test_a_mixture_is_refused(read):
    (found,), _, _ = read(CIF.format("1.0"), "a.cif")
    assert found.natm == 2
    _, (error,), _ = read(CIF.format("0.5"), "b.cif")
    assert "a site with 0.5 Na" in error


def test_pdb_with_copies_that_are_not_there(read):
    atom = "ATOM      1  H   HYD A   1       0.000   0.000   0.000  1.00  0.00           H\nEND\n"
    head = "CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 {}\n"
    (found,), _, _ = read(head.format("P 1") + atom, "a.pdb")
    assert found.periodic
    _, (error,), _ = read(head.format("P 21 21 21") + atom, "b.pdb")
    assert "P 21 21 21" in error


def test_commands_for_molecules_refuse_crystals():
    with pytest.raises(InputError, match="periodic"):
        from_atoms(crystal())
