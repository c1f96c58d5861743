"""Outputs of Gaussian, ORCA and Q-Chem: each geometry once, with its charge and spin."""

import pytest

from .records import CATION, WATER, assert_water


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
