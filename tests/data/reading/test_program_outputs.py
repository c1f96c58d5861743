"""Outputs of Gaussian, ORCA and Q-Chem: each geometry once, with its charge and spin."""

import pytest

from deeph_zero.data.structures import read_structures

from .records import CATION, WATER, assert_water, save


def gaussian_table(name, shift=0.0):
    rows = "".join(
        f"      {k}          {z}           0        {x:.6f}    {y:.6f}    {h + shift * k:.6f}\n"
        for k, (z, x, y, h) in enumerate(
            [(8, 0, 0, 0.1), (1, 0, 0.76, 0.58), (1, 0.05, -0.74, 0.61)]
        )
    )
    return f"    {name} orientation:   \n ----\n Center ...\n Number ...\n ----\n{rows} ----\n"


GAUSSIAN = " Entering Gaussian System, Link 0=g16\n Charge =  1 Multiplicity = 2\n"
DONE = " SCF Done:  E(UPBE) =  -75.0     A.U. after   10 cycles\n"
ORCA = "               * O   R   C   A *\n"
ORCA_TABLE = (
    "CARTESIAN COORDINATES (ANGSTROEM)\n---------\n"
    "  O      0.000000    0.000000    0.100000\n  H      0.000000    0.760000    {}\n"
    "  H      0.050000   -0.740000    0.610000\n\n"
)
ORCA_STATE = (
    " Total Charge           Charge          ....    1\n Multiplicity           Mult  ....    2\n"
)
QCHEM = "   Welcome to Q-Chem\n$molecule\n1 2\n" + WATER + "$end\n"
QCHEM_TABLE = (
    "             Standard Nuclear Orientation (Angstroms)\n    I     Atom     X  Y  Z\n ----\n"
    "    1      O       0.0000000000     0.0000000000     0.1000000000\n"
    "    2      H       0.0000000000     0.7600000000     0.5800000000\n"
    "    3      H       0.0500000000    -0.7400000000     0.6100000000\n ----\n"
)


GOOD = {
    "gaussian output": (
        "a.log",
        GAUSSIAN
        + gaussian_table("Input")
        + gaussian_table("Standard")
        + DONE
        + gaussian_table("Standard", 0.01)
        + DONE
        + gaussian_table("Input", 0.01),
        CATION * 2,
    ),
    "gaussian output of fragments": (
        "a.log",
        GAUSSIAN.replace("= 2\n", "= 2 in supermolecule\n")
        + " Charge =  0 Multiplicity = 1 in fragment      1.\n"
        + gaussian_table("Standard")
        + DONE,
        CATION,
    ),
    "gaussian output cut off": ("a.out", GAUSSIAN + gaussian_table("Input"), CATION),
    "orca output": (
        "a.out",
        ORCA + ORCA_TABLE.format("0.570000") + ORCA_STATE + ORCA_TABLE.format("0.580000"),
        CATION * 2,
    ),
    "q-chem output": ("a.out", QCHEM + QCHEM_TABLE + QCHEM_TABLE, CATION),
}


@pytest.mark.parametrize("case", GOOD)
def test_all_records_with_their_charge_and_spin(tmp_path, case):
    assert_water(*GOOD[case], tmp_path, atol=0.04)


def read(tmp_path, text):
    molecules, bad = read_structures([save(tmp_path, "a.out", text)])
    return molecules, [b.error for b in bad]


@pytest.mark.parametrize("text", [GAUSSIAN, ORCA, "   Welcome to Q-Chem\n"])
def test_an_output_without_coordinates(tmp_path, text):
    molecules, (error,) = read(tmp_path, text)
    assert molecules == []
    assert "expected a table of coordinates, got none" in error


def test_what_gaussian_writes_in_place_of_atoms(tmp_path):
    """-2 is a translation vector, 0 and -1 are centres without a nucleus."""
    for number, words in (("-2", "periodic systems are not supported"), ("0", "ghost atoms")):
        table = gaussian_table("Input").replace("          8  ", f"          {number}  ")
        _, (error,) = read(tmp_path, GAUSSIAN + table + DONE)
        assert words in error


def test_one_geometry_in_two_orientations_is_one(tmp_path):
    """The last of an optimisation is printed again, turned, and nothing is computed there."""
    turned = gaussian_table("Standard")
    for old, new in (("0.760000", "0.660000"), ("-0.740000", "-0.640000")):
        turned = turned.replace(old, new)
    text = GAUSSIAN + gaussian_table("Input") + DONE
    molecules, _ = read(tmp_path, text + gaussian_table("Standard"))
    assert len(molecules) == 1
    molecules, _ = read(tmp_path, text + turned)  # another geometry, at the end
    assert len(molecules) == 2


def test_rotated_copies_are_left_out(tmp_path):
    """Distances tell, whatever the axes: x, y, z become y, z, x."""
    lines = gaussian_table("Input").split("\n")
    rotated = []
    for line in lines:
        words = line.split()
        if len(words) == 6 and words[0].isdigit():
            words = [*words[:3], words[4], words[5], words[3]]
            rotated.append("      " + "          ".join(words))
        else:
            rotated.append(line)
    text = GAUSSIAN + gaussian_table("Input") + DONE + "\n".join(rotated)
    molecules, bad = read(tmp_path, text)
    assert (len(molecules), bad) == (1, [])


def test_a_state_that_is_not_printed_is_said(tmp_path, caplog):
    text = ORCA + ORCA_TABLE.format("0.580000")
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, bad = read(tmp_path, text)
    assert (len(molecules), bad) == (1, [])
    assert "no charge and multiplicity found in the output" in caplog.records[0].getMessage()


def test_a_table_of_another_kind_costs_itself_only(tmp_path):
    broken = ORCA_TABLE.format("0.570000").replace("  O  ", "  Q  ")
    text = ORCA + ORCA_STATE + broken + ORCA_TABLE.format("0.580000")
    molecules, errors = read(tmp_path, text)
    assert [m.frame for m in molecules] == [1]
    assert "ghost atoms are not supported" in errors[0]
