"""Every format of structure files: all records, the charge and spin they state, one line else."""

import bz2
import gzip
import lzma
import os

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.db import connect

from deeph_zero.data.reading import content
from deeph_zero.data.structures import read_structures
from deeph_zero.units import BOHR_IN_ANGSTROM

WATER = "O 0 0 0.1\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n"
OH = "O 0.1 0 0\nH 0 0.2 0.95\n"
XYZ = "3\ngood\n" + WATER
MOL_ATOMS = (
    "    0.0000    0.0000    0.1000 O   0  0  0  0  0\n"
    "    0.0000    0.7600    0.5800 H   0  0  0  0  0\n"
    "    0.0500   -0.7400    0.6100 H   0  0  0  0  0\n"
)
MOL = (
    "one\n  field\n\n  3  2  0  0  0  0  0  0  0  0999 V2000\n"
    + MOL_ATOMS
    + "  1  2  1  0\n  1  3  1  0\n{}M  END\n"
)
V3000 = """v3
  field

  0  0  0     0  0            999 V3000
M  V30 BEGIN CTAB
M  V30 COUNTS 3 0 0 0 0
M  V30 BEGIN ATOM
M  V30 1 O 0 0 0.1 0 CHG=1 RAD=2
M  V30 2 H 0 0.76 -
M  V30 0.58 0
M  V30 3 H 0.05 -0.74 0.61 0
M  V30 END ATOM
M  V30 END CTAB
M  END
"""


def pdb_line(name, xyz, element="", residue="HOH", record="HETATM"):
    x, y, z = xyz
    return (
        f"{record:6}    1 {name:4} {residue:3} A   1    {x:8.3f}{y:8.3f}{z:8.3f}"
        f"  1.00  0.00          {element}\n"
    )


PDB = (
    pdb_line(" O  ", (0, 0, 0.1), " O")
    + pdb_line(" H1 ", (0, 0.76, 0.58), " H")
    + pdb_line(" H2 ", (0.05, -0.74, 0.61), " H")
)


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


def in_bohr(lines):
    rows = [line.split() for line in lines.splitlines()]
    return "".join(
        " ".join([row[0], *(repr(float(x) / BOHR_IN_ANGSTROM) for x in row[1:])]) + "\n"
        for row in rows
    )


MOL2_WATER = (
    "@<TRIPOS>MOLECULE\nw\n 3 2\nSMALL\nUSER_CHARGES\n\n@<TRIPOS>ATOM\n 1 O 0 0 0.1 O.3 1 W -0.8\n"
    " 2 H 0 0.76 0.58 H 1 W 0.4\n 3 H 0.05 -0.74 0.61 H 1 W 0.5\n"
    "@<TRIPOS>BOND\n 1 1 2 1\n 2 1 3 1\n"
)
NEUTRAL, CATION = [(0, 0)], [(1, 1)]
GOOD = {
    "gaussian input": ("a.com", "%mem=1GB\n#p PBE1PBE\n\ntitle\n\n1 2\n" + WATER + "\n", CATION),
    "gaussian input by content": ("a.txt", "# hf\n\ntitle\n\n1 2\n" + WATER + "\n", CATION),
    "gaussian forms": (
        "a.gjf",
        (
            "# hf\n\na\nb\n\n1,2\n8,0.0,0.0,0.1\nH(iso=1) 0 0.0 0.76 0.58 !c\n"
            "H-HW-0.4 0.05 -0.74 0.61\n\n"
        ),
        CATION,
    ),
    "gaussian jobs": (
        "a.gjf",
        "# hf\n\na\n\n1 2\n" + WATER + "\n--Link1--\n# hf\n\na\n\n0 1\n" + WATER + "\n",
        [(1, 1), (0, 0)],
    ),
    "q-chem fragments": (
        "a.in",
        "$molecule\n1 2\n--\n1 2\nO 0 0 0.1\n--\n0 1\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n$end\n",
        CATION,
    ),
    "turbomole charge and threshold": (
        "coord",
        (
            "$coord angs natoms=3\n 0 0 0.1 o\n 0 0.76 0.58 h\n 0.05 -0.74 0.61 h\n"
            "$charge\n 1.0 0.001\n$spin 1\n$end\n"
        ),
        CATION,
    ),
    "mol2 attributes": (
        "a.mol2",
        MOL2_WATER + "@<TRIPOS>UNITY_ATOM_ATTR\n1 1\ncharge 2\n",
        [(2, 0)],
    ),
    "key and colon": ("a.xyz", "3\ncharge: 1, Multiplicity: 2\n" + WATER, CATION),
    "colons and bars": ("a.xyz", "3\nx|charge:+1|mult:2\n" + WATER, CATION),
    "json in the title": ("a.xyz", '3\n{"charge": 1, "spin": "1"}\n' + WATER, CATION),
    "typographic minus": ("a.xyz", "3\ncharge=\u22122\n" + WATER.replace("-", "\u2212"), [(-2, 0)]),
    "gaussian fragments": ("a.gjf", "# hf\n\na\n\n1 2 0 1 1 2\n" + WATER + "\n", CATION),
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
    "orca input": (
        "a.inp",
        "! PBE\n%pal nprocs 4 end\n*xyz 1 2 # charge\n" + WATER + "*\n",
        CATION,
    ),
    "orca jobs": (
        "a.inp",
        "! PBE\n* xyz 1 2\n" + WATER + "*\n$new_job\n! PBE\n* XYZ 0 1\n" + WATER + "*\n",
        [(1, 1), (0, 0)],
    ),
    "orca coords": (
        "a.inp",
        "! PBE\n%coords\n CTyp xyz\n Charge 1\n Mult = 2\n Units Angs\n coords\n"
        + WATER
        + " end\nend\n",
        CATION,
    ),
    "orca output": (
        "a.out",
        ORCA + ORCA_TABLE.format("0.570000") + ORCA_STATE + ORCA_TABLE.format("0.580000"),
        CATION * 2,
    ),
    "q-chem input": (
        "a.in",
        "$molecule\n1 2\n" + WATER + "$end\n$rem\nmethod pbe\n$end\n@@@\n"
        "$molecule\nread\n$end\n@@@\n$molecule\n0 1\n" + WATER + "$end\n",
        [(1, 1), (0, 0)],
    ),
    "q-chem output": ("a.out", QCHEM + QCHEM_TABLE + QCHEM_TABLE, CATION),
    "turbomole": (
        "coord",
        (
            "$coord angs\n 0 0 0.1 o\n 0 0.76 0.58 h f\n 0.05 -0.74 0.61 h\n"
            "$eht charge=1 unpaired=1\n$end\n"
        ),
        CATION,
    ),
    "xtb coord": (
        "w.coord",
        ("$coord angs\n 0 0 0.1 o\n 0 0.76 0.58 h\n 0.05 -0.74 0.61 h\n$chrg 1\n$spin 1\n$end\n"),
        CATION,
    ),
    "nwchem": (
        "a.nw",
        "charge 1\ngeometry units angstroms\n" + WATER + "end\ndft\n mult 2\nend\n",
        CATION,
    ),
    "gen": (
        "a.gen",
        "3 C\nO H\n1 1 0 0 0.1\n2 2 0 0.76 0.58\n3 2 0.05 -0.74 0.61\n" * 2,
        NEUTRAL * 2,
    ),
    "mol": ("a.mol", MOL.format(""), NEUTRAL),
    "mol charge": ("a.mol", MOL.format("M  CHG  2   1   2   2  -1\nM  RAD  1   1   2\n"), CATION),
    "mol old charge": ("a.mol", MOL.replace("O   0  0", "O   0  3").format(""), [(1, 0)]),
    "mol new charge wins": (
        "a.mol",
        MOL.replace("O   0  0", "O   0  3").format("M  RAD  1   1   3\n"),
        [(0, 2)],
    ),
    "sdf": (
        "a.sdf",
        MOL.format("")
        + "> <name>\nx\n\n$$$$\n"
        + MOL.format("M  CHG  1   1   1\n")
        + "> <multiplicity>\n2\n\n$$$$\n\n",
        [(0, 0), (1, 1)],
    ),
    "sdf named otherwise": (
        "a.dat",
        MOL.format("") + "$$$$\n" + MOL.format("") + "$$$$\n",
        NEUTRAL * 2,
    ),
    "sdf v3000": ("a.sdf", V3000 + "$$$$\n" + MOL.format("") + "$$$$\n", [(1, 1), (0, 0)]),
    "mol2": (
        "a.mol2",
        2
        * (
            "@<TRIPOS>MOLECULE\nw\n 3 0\nSMALL\nUSER\n\n@<TRIPOS>ATOM\n 1 O1 0 0 0.1 O.3 1 W 0.7\n"
            " 2 H1 0 0.76 0.58 H 1 W 0.1\n 3 H2 0.05 -0.74 0.61 H 1 W 0.2\n"
            "@<TRIPOS>BOND\n"
        ),
        [(1, 0)] * 2,
    ),
    "pdb models": (
        "a.pdb",
        f"MODEL        1\n{PDB}ENDMDL\nMODEL        2\n{PDB}ENDMDL\nEND\n",
        NEUTRAL * 2,
    ),
    "pdb with an empty last model": (
        "a.pdb",
        f"MODEL        1\n{PDB}ENDMDL\nMODEL  2\nENDMDL\n\n",
        NEUTRAL,
    ),
    "pdb without end, by content": ("a.txt", PDB, NEUTRAL),
    "pdb dummy cell": (
        "a.pdb",
        "CRYST1    1.000    1.000    1.000  90.00  90.00  90.00 P 1\n" + PDB,
        NEUTRAL,
    ),
    "pdb charge": ("a.pdb", PDB.replace(" O\n", " O1+\n"), [(1, 0)]),
    "pdb without elements": (
        "a.pdb",
        pdb_line(" O  ", (0, 0, 0.1))
        + pdb_line("1H  ", (0, 0.76, 0.58))
        + pdb_line("HW2 ", (0.05, -0.74, 0.61)),
        NEUTRAL,
    ),
    "xyz named .out": ("a.out", XYZ * 2, NEUTRAL * 2),
    "xyz without suffix": ("frames", XYZ, NEUTRAL),
    "xyz with QM9's lines": (
        "a.xyz",
        (
            "3\ngdb 7\t1.0\t2.0\t-76.4\t\n"
            + WATER.replace("\n", "\t-0.4\n")
            + "1600.0\t3800.0\t3900.0\nO\tO\nInChI=1S/H2O/h1H2\tInChI=1S/H2O/h1H2\n"
        )
        * 2,
        NEUTRAL * 2,
    ),
    "xyz with D exponents": (
        "a.xyz",
        ("3\nx\nO 0.0D+00 0 1.0D-01\nH 0 7.6d-1 5.8*^-1\nH 5.*^-2 -0.74 0.61\n"),
        NEUTRAL,
    ),
    "xyz labels": ("a.xyz", "3\nx\nO1 0 0 0.1\nH_2 0 0.76 0.58\nh(3) 0.05 -0.74 0.61\n", NEUTRAL),
    "xyz atomic numbers": ("a.xyz", "3\nx\n8 0 0 0.1\n1 0 0.76 0.58\n1 0.05 -0.74 0.61\n", NEUTRAL),
    "xyz isotopes": ("a.xyz", "3\nx\nO 0 0 0.1\nD 0 0.76 0.58\nT 0.05 -0.74 0.61\n", NEUTRAL),
    "xyz form feed": ("a.xyz", "3\none\ftwo\x85three\n" + WATER, NEUTRAL),
    "xyz blank lines": ("a.xyz", XYZ + "\n\n" + XYZ + "\n \n", NEUTRAL * 2),
    "xyz old Mac lines": ("a.xyz", XYZ.replace("\n", "\r"), NEUTRAL),
    "xyz title of two integers": ("a.xyz", "3\n1 2\n" + WATER, CATION),
    "xyz keys": ("a.xyz", "3\nTotal_Charge=1 Multiplicity=2\n" + WATER, CATION),
    "extended xyz": (
        "a.xyz",
        "3\nProperties=species:S:1:pos:R:3:forces:R:3:initial_charges:R:1 nelec=9 "
        "uhf=1\n" + WATER.replace("\n", " 0 0 0 0.33334\n"),
        CATION,
    ),
    "xyz in bohr": ("a.xyz", "3\nunits=bohr\n" + in_bohr(WATER), NEUTRAL),
}


def save(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("case", GOOD)
def test_all_records_with_their_charge_and_spin(tmp_path, case):
    name, text, states = GOOD[case]
    molecules, bad = read_structures([save(tmp_path, name, text)])
    assert bad == []
    assert [(m.charge, m.spin) for m in molecules] == states
    expected = np.array([[0, 0, 0.1], [0, 0.76, 0.58], [0.05, -0.74, 0.61]]) / BOHR_IN_ANGSTROM
    assert [m.numbers.tolist() for m in molecules] == [[8, 1, 1]] * len(states)
    np.testing.assert_allclose(molecules[-1].coords, expected, rtol=0, atol=0.04)
    if "output" not in case:
        np.testing.assert_allclose(molecules[-1].coords, expected, rtol=0, atol=1e-10)


def test_a_z_matrix_of_gaussian(tmp_path):
    path = save(tmp_path, "z.com", "# hf\n\nt\n\n-1 1\nO\nH 1 0.97\n\n")
    (molecule,), bad = read_structures([path])
    assert (molecule.charge, bad) == (-1, [])
    assert np.linalg.norm(np.diff(molecule.coords, axis=0)) == pytest.approx(
        0.97 / BOHR_IN_ANGSTROM
    )


@pytest.mark.parametrize(
    "variables",
    [
        "\noo=1.45\noh=0.97\na=100.\nd 110\n",
        "Variables:\noo 1.45\noh .97\na 100.0\nConstants:\nd=110.0\n",
    ],
)
def test_variables_of_a_z_matrix(tmp_path, variables):
    text = "# hf\n\nt\n\n0 1\nO\nO 1 oo\nH 1 oh 2 a\nH 2 oh 1 a 3 -d\n" + variables + "\n"
    (molecule,), bad = read_structures([save(tmp_path, "z.com", text)])
    found = Atoms("O2H2", molecule.coords * BOHR_IN_ANGSTROM)
    assert bad == []
    assert found.get_distance(0, 1) == pytest.approx(1.45)
    assert found.get_distance(1, 3) == pytest.approx(0.97)
    assert found.get_angle(0, 1, 3) == pytest.approx(100)
    assert found.get_dihedral(3, 1, 0, 2) == pytest.approx(250)


BAD = {
    "count alone": ("a.xyz", "0\n", "no atoms"),
    "sdf announces more": ("a.sdf", MOL.replace("  3  2", "  5  0").format(""), "expected 5 atoms"),
    "sdf cut in its bonds": ("a.sdf", MOL.format("").split("  1  3  1")[0], "expected 2 bonds"),
    "mol charge of no atom": (
        "a.mol",
        MOL.format("M  CHG  1   9   1\n"),
        "pairs of atom and value",
    ),
    "mol2 cut off": (
        "a.mol2",
        "@<TRIPOS>MOLECULE\nw\n 3 0\n@<TRIPOS>ATOM\n 1 O 0 0 0 O.3\n",
        "got 1",
    ),
    "charges contradict": (
        "a.sdf",
        MOL.format("M  CHG  1   1   1\n") + "> <charge>\n0\n\n$$$$\n",
        "expected one charge, got charge=1 and charge =0",
    ),
    "calcium or carbon": ("a.pdb", pdb_line("CA  ", (0, 0, 0), residue="LIG"), "may be C or Ca"),
    "pdb charge": ("a.pdb", PDB.replace(" O\n", " Oxx\n"), "columns 79-80"),
    "pdb cell": (
        "a.pdb",
        "CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 P 1\n" + PDB,
        "periodic",
    ),
    "gaussian without charge": ("a.com", "# hf\n\nt\n\nO 0 0 0\n\n", "'charge multiplicity'"),
    "gaussian periodic": ("a.com", "# hf\n\nt\n\n0 1\n" + OH + "Tv 1 0 0\n\n", "periodic"),
    "gaussian ghost": ("a.com", "# hf\n\nt\n\n0 1\n" + OH + "O-Bq 1 0 3\n\n", "ghost"),
    "gaussian layers": ("a.com", "# hf\n\nt\n\n0 1\nO 0 0 0 H\nH 0 0 1 L\n\n", "leave out"),
    "gaussian checkpoint": ("a.com", "#p hf geom=(check)\n\nt\n\n0 1\n\n", "from a checkpoint"),
    "gaussian nuclear charge": (
        "a.com",
        "# hf\n\nt\n\n0 1\n" + OH.replace("O", "O(ZNuc=7.5)") + "\n",
        "leave out ZNuc",
    ),
    "gaussian variable": (
        "a.com",
        "# hf\n\nt\n\n0 2\nO\nH 1 r\n\nq=1\n\n",
        "a Z-matrix of numbers",
    ),
    "orca ghost": ("a.inp", "! PBE\n* xyz 0 1\nO: 1 1 1\n" + OH + "*\n", "ghost"),
    "orca point charge": (
        "a.inp",
        "! PBE\n* xyz 0 1\nQ 1.0 1 1 1\n" + OH + "*\n",
        "leave them out",
    ),
    "types of lammps": ("a.xyz", "2\nAtoms. Timestep: 0\n1 0 0 0\n2 0 0 1\n", "are types"),
    "nanometres": ("a.xyz", "3\nunits=nm\n" + WATER, "angstrom or bohr, got 'nm'"),
    "orca file": ("a.inp", "! PBE\n* xyzfile 0 1 a.xyz\n", "stand in another file"),
    "orca internal": ("a.inp", "! PBE\n* int 0 1\nO 0 0 0 0 0 0\n*\n", "internal coordinates"),
    "orca open": ("a.inp", "! PBE\n* xyz 0 1\n" + OH, "the end of the coordinates"),
    "turbomole periodic": ("coord", "$coord\n0 0 0 o\n$periodic 3\n$end\n", "periodic"),
    "turbomole twice": ("coord", "$coord\n0 0 0 o\n$coord\n0 0 1 o\n$end\n", "several"),
    "turbomole unit": ("coord", "$coord frac\n0 0 0 o\n$end\n", "bohr or angs"),
    "multiplicity and spin": ("a.xyz", "3\nspin=2 multiplicity=2\n" + WATER, "expected one spin"),
    "key twice": ("a.xyz", "3\ncharge=1 charge=0\n" + WATER, "expected one charge="),
    "underscore": ("a.xyz", "2\nx\nO 0 0 0\nH 0 0 1_0\n", "expected 'symbol x y z'"),
    "digits of another script": (
        "a.xyz",
        "2\nx\nO 0 0 0\nH 0 0 \uff11\n",
        "expected 'symbol x y z'",
    ),
    "long count": ("a.xyz", "1" * 5000 + "\nx\nO 0 0 0\n", "expected the number of atoms"),
    "huge": ("a.xyz", "2\nx\nO 0 0 0\nH 0 0 1e200\n", "coordinates up to 1e+06"),
    "beyond floats": ("a.xyz", "2\nx\nO 0 0 0\nH 0 0 1e999\n", "finite coordinates"),
    "ambiguous label": ("a.xyz", "2\nx\nO 0 0 0\nCA1 0 0 1\n", "may be C or Ca"),
    "extended width": ("a.xyz", "3\nProperties=species:S:1:pos:R:3:q:R:1\n" + WATER, "5 columns"),
    "extended number": (
        "a.xyz",
        "2\nProperties=species:S:1:pos:R:3\nO 0 0 0\nH 0 0 1_0\n",
        "a number",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_record_is_one_line_with_a_cure(tmp_path, case):
    name, text, words = BAD[case]
    molecules, bad = read_structures([save(tmp_path, name, text)])
    assert molecules == []
    assert [b.frame for b in bad] == [0]
    assert words in bad[0].error
    assert len(str(bad[0]).splitlines()) == 1
    assert ";" in bad[0].error


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


@pytest.mark.parametrize(
    ("name", "good", "broken"),
    [
        ("a.sdf", MOL.format("") + "$$$$\n", MOL.format("").replace("H ", "Qq", 1) + "$$$$\n"),
        ("a.pdb", f"MODEL 1\n{PDB}ENDMDL\n", f"MODEL 1\n{PDB.replace('0.760', 'x.xxx')}ENDMDL\n"),
        (
            "a.com",
            f"# hf\n\nt\n\n0 1\n{WATER}\n--Link1--\n",
            "# hf\n\nt\n\n0 1\nO x\n\n--link1--\n",
        ),
        ("a.xyz", XYZ, XYZ.replace("0.76", "1e300")),
        ("a.inp", f"* xyz 0 1\n{WATER}*\n", "* xyz 0 1\nQq 0 0 0\n*\n"),
    ],
    ids=["sdf", "pdb", "gaussian", "xyz", "orca"],
)
def test_a_broken_record_does_not_cost_its_neighbours(tmp_path, name, good, broken):
    molecules, bad = read_structures([save(tmp_path, name, good + broken + good)])
    assert [m.frame for m in molecules] == [0, 2]
    assert [b.frame for b in bad] == [1]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize(
    ("name", "text"), [("a.xyz", XYZ + "\n" + XYZ), ("a.pdb", PDB + "END\n" + PDB)]
)
def test_packed_files_are_read_like_plain_ones(tmp_path, pack, name, text):
    suffix = {gzip.compress: "gz", bz2.compress: "bz2", lzma.compress: "xz"}[pack]
    for packed in (f"{name}.{suffix}", name):
        molecules, bad = read_structures([save(tmp_path, packed, pack(text.encode()))])
        assert (len(molecules), bad) == (2, [])


def test_a_packed_file_unpacks_within_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(content, "MAX_UNPACKED", 2**20)
    path = save(tmp_path, "a.xyz.gz", gzip.compress(bytes(2**22)))
    assert "at most 1 MB" in str(read_structures([path])[1][0])
    path.write_bytes(gzip.compress(XYZ.encode())[:30])
    assert "cannot be unpacked" in str(read_structures([path])[1][0])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "latin-1"])
def test_titles_in_any_encoding(tmp_path, encoding):
    path = save(tmp_path, "a.xyz", XYZ.replace("good", "r = 0.96 Å").encode(encoding))
    molecules, bad = read_structures([path])
    assert (len(molecules), bad) == (1, [])


def test_what_is_no_ordinary_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.xyz")
    (tmp_path / "loop.xyz").symlink_to(tmp_path / "loop.xyz")
    (tmp_path / "zero.xyz").symlink_to("/dev/zero")
    words = ("named pipe", "symbolic links", "device")
    for name, word in zip(("pipe.xyz", "loop.xyz", "zero.xyz"), words, strict=True):
        molecules, bad = read_structures([tmp_path / name])
        assert molecules == []
        assert word in str(bad[0])


@pytest.mark.parametrize(
    "name", ["a.out", "a.dat", "a.log", "a.txt", "a", "a.json", "a.cif", "a.traj"]
)
@pytest.mark.parametrize("text", ["hello", "3\n", "[1]", "{}", "# a\n\n1 2\n", "data_x\n"])
def test_any_text_under_any_name_is_one_line(tmp_path, name, text):
    molecules, bad = read_structures([save(tmp_path, name, text)])
    assert molecules == []
    assert len(bad) == 1
    assert len(str(bad[0]).splitlines()) == 1
    assert ";" in bad[0].error


@pytest.mark.parametrize("source", ["smiles:", "smiles:  ", "a.smi"])
def test_no_smiles_is_one_line(tmp_path, source):
    save(tmp_path, "a.smi", "# only a comment\n")
    name = source if source.startswith("smiles") else tmp_path / source
    molecules, bad = read_structures([name])
    assert (molecules, len(bad)) == ([], 1)
    assert "got none" in str(bad[0])


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


def test_a_computed_table_is_refused(tmp_path):
    import sqlite3

    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute(
            "CREATE VIEW data AS WITH RECURSIVE c(N) AS (SELECT 1 UNION ALL SELECT N + 1 FROM c) "
            "SELECT N, N AS Z, N AS pos, N AS Ham FROM c"
        )
    molecules, bad = read_structures([tmp_path / "a.db"])
    assert molecules == []
    assert "plain tables" in str(bad[0])


def test_moments_of_a_trajectory(tmp_path):
    atoms = Atoms("O2", [[0, 0, 0], [0, 0.1, 1.2]])
    atoms.set_initial_magnetic_moments([1, 1])
    for name in ("a.traj", "a.extxyz"):
        ase.io.write(tmp_path / name, [atoms, atoms])
        molecules, bad = read_structures([tmp_path / name])
        assert ([m.spin for m in molecules], bad) == ([2, 2], [])


def test_a_kind_of_warning_is_one_line_per_file(tmp_path, caplog):
    path = save(
        tmp_path, "a.xyz", ("3\ntotal_spin={}\n" + WATER).format(1) * 50 + "3\n0 2\n" + WATER
    )
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, _ = read_structures([path])
    assert len(molecules) == 51
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split(": ")[0] for line in lines] == [
        f"{path} frame 0 (and 49 more)", f"{path} frame 50",
    ]  # fmt: skip


def test_coordinates_of_a_crystallographic_file_of_proteins(tmp_path):
    path = save(tmp_path, "a.cif", "data_x\nloop_\n_atom_site.Cartn_x\n1.0\n")
    molecules, bad = read_structures([path])
    assert (molecules, [b.frame for b in bad]) == ([], [None])
    assert "got mmCIF, not supported; write .pdb or .xyz" in bad[0].error
