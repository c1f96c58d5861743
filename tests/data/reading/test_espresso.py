"""Quantum ESPRESSO's XML file, and inputs whose cell is given by A."""

import numpy as np
import pytest

from deeph_zero.data.structures import read_structures

XML = """<?xml version="1.0" encoding="UTF-8"?>
<qes:espresso xmlns:qes="http://www.quantum-espresso.org/ns/qes/qes-1.0">
  <input><atomic_structure nat="1"><atomic_positions><atom name="H">0 0 0</atom>
  </atomic_positions><cell><a1>9 0 0</a1><a2>0 9 0</a2><a3>0 0 9</a3></cell></atomic_structure>
  </input>
  <output><atomic_structure nat="2" alat="5.0"><atomic_positions>
    <atom name="Si1" index="1">1.0e-1 2.0e-1 3.0e-1</atom>
    <atom name="C" index="2">2.5 2.25 2.0</atom>
  </atomic_positions><cell><a1>6.0 0.5 0</a1><a2>0 7.0 0.25</a2><a3>0.125 0 8.0</a3></cell>
  </atomic_structure></output>
</qes:espresso>
"""
INPUT = """&CONTROL
/
&SYSTEM
 ibrav = 0 ! A = 7.0
 A = {a} ! angstrom
 nat = 2, ntyp = 2
/
CELL_PARAMETERS alat
 1.0 0.0 0.1
 0.0 1.2 0.0
 0.0 0.3 1.1
ATOMIC_SPECIES
 Si 28 x.upf
 C 12 y.upf
ATOMIC_POSITIONS crystal
 Si 0.1 0.2 0.3
 C 0.5 0.6 0.4
"""
VECTORS = np.array([[1.0, 0, 0.1], [0, 1.2, 0], [0, 0.3, 1.1]])


def read(path):
    found, bad = read_structures([path], crystals=True)
    return found, [str(b) for b in bad]


def test_a_run_states_charge_and_unpaired_electrons(tmp_path):
    path = tmp_path / "run.xml"
    for spin, expected in (("1.0", 1), ("-1.0", 0)):
        bands = f"<tot_charge>-1.0</tot_charge><tot_magnetization>{spin}</tot_magnetization>"
        path.write_text(XML.replace("<input>", f"<input><bands>{bands}</bands>"))
        (crystal,), _ = read(path)
        assert (crystal.charge, crystal.spin) == (-1, expected)


def test_the_last_structure_of_a_run(tmp_path):
    path = tmp_path / "run.xml"
    path.write_text(XML)
    (crystal,), _ = read(path)
    assert crystal.numbers.tolist() == [14, 6]
    assert np.abs(crystal.coords - [[0.1, 0.2, 0.3], [2.5, 2.25, 2.0]]).max() < 1e-12
    lattice = [[6, 0.5, 0], [0, 7, 0.25], [0.125, 0, 8]]
    assert np.abs(crystal.lattice - lattice).max() < 1e-12


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</output>", "", "expected XML, got a fault"),
        ("<qes:espresso ", '<!DOCTYPE x [<!ENTITY a "b">]><qes:espresso ', "expected plain XML"),
        ("Si1", "Q", "expected an element, got 'Q'"),
        ("2.5 2.25", "2.5", "expected a position of three numbers"),
        ("7.0 0.25", "7.0 x", "expected a lattice vector of three numbers"),
    ],
)
def test_damaged_files(tmp_path, old, new, message):
    path = tmp_path / "run.xml"
    path.write_text(XML.replace(old, new, 1))
    found, bad = read(path)
    assert not found
    assert message in bad[0]
    assert bad[0].startswith(str(path))


@pytest.mark.parametrize("a", ["4.0", "4.0d0", ".4E1"])
def test_inputs_in_units_of_a(tmp_path, a):
    path = tmp_path / "pw.in"
    path.write_text(INPUT.format(a=a))
    (crystal,), bad = read(path)
    assert not bad
    lattice = 4.0 * VECTORS / 0.52917721092
    assert np.abs(crystal.lattice - lattice).max() < 1e-9
    assert np.abs(crystal.coords[1] - [0.5, 0.6, 0.4] @ lattice).max() < 1e-9
