"""Inputs of Gaussian, ORCA, Q-Chem, NWChem and Turbomole, and what they state besides atoms."""

import numpy as np
import pytest
from ase import Atoms

from deeph_zero.data.structures import read_structures
from deeph_zero.units import BOHR_IN_ANGSTROM

from .records import (
    CATION,
    NEUTRAL,
    OH,
    WATER,
    assert_costs_itself_only,
    assert_refused,
    assert_said,
    assert_silent,
    assert_water,
    in_bohr,
    save,
)

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
    "gaussian fragments": ("a.gjf", "# hf\n\na\n\n1 2 0 1 1 2\n" + WATER + "\n", CATION),
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
    "q-chem input": (
        "a.in",
        "$molecule\n1 2\n" + WATER + "$end\n$rem\nmethod pbe\n$end\n@@@\n"
        "$molecule\nread\n$end\n@@@\n$molecule\n0 1\n" + WATER + "$end\n",
        [(1, 1), (0, 0)],
    ),
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
}


@pytest.mark.parametrize("case", GOOD)
def test_all_records_with_their_charge_and_spin(tmp_path, case):
    assert_water(*GOOD[case], tmp_path)


BAD = {
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
    "gaussian radians": (
        "a.com",
        "# hf units=(rad,au)\n\nt\n\n0 1\nO\nH 1 1.8\nH 1 1.8 2 1.82\n\n",
        "expected angles in degrees, got units=rad",
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
    "orca file": ("a.inp", "! PBE\n* xyzfile 0 1 a.xyz\n", "stand in another file"),
    "orca internal": ("a.inp", "! PBE\n* int 0 1\nO 0 0 0 0 0 0\n*\n", "internal coordinates"),
    "qchem internal": ("a.in", "$molecule\n0 1\nO\nH 1 0.96\n$end\n", "internal coordinates"),
    "orca open": ("a.inp", "! PBE\n* xyz 0 1\n" + OH, "the end of the coordinates"),
    "turbomole periodic": ("coord", "$coord\n0 0 0 o\n$periodic 3\n$end\n", "periodic"),
    "turbomole twice": ("coord", "$coord\n0 0 0 o\n$coord\n0 0 1 o\n$end\n", "several"),
    "turbomole unit": ("coord", "$coord frac\n0 0 0 o\n$end\n", "bohr or angs"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_record_is_one_line_with_a_cure(tmp_path, case):
    assert_refused(*BAD[case], tmp_path)


SAID = {
    "point charges of gaussian": (
        "a.com",
        "# hf charge\n\nt\n\n1 2\n" + WATER + "\n3 0 0 1\n\n",
        "point charges",
        CATION,
    ),
    "solvent of gaussian": (
        "a.com",
        "#p hf scrf=(smd)\n\nt\n\n1 2\n" + WATER + "\n",
        "solvent",
        CATION,
    ),
    "field of gaussian": (
        "a.com",
        "# hf field=x+10\n\nt\n\n1 2\n" + WATER + "\n",
        "electric field",
        CATION,
    ),
    "isotopes of gaussian": (
        "a.com",
        "# hf\n\nt\n\n1 2\n" + WATER.replace("H", "H(Iso=2)", 1) + "\n",
        "Iso=",
        CATION,
    ),
    "geometry of another job": (
        "a.com",
        "# opt\n\nt\n\n1 2\n" + WATER + "\n--Link1--\n# freq geom=allcheck\n\n",
        "geom=check",
        CATION,
    ),
    "point charges of orca": (
        "a.inp",
        '! PBE\n%pointcharges "a"\n* xyz 1 2\n' + WATER + "*\n",
        "point charges",
        CATION,
    ),
    "solvent of orca": (
        "a.inp",
        "! PBE CPCM(water)\n* xyz 1 2\n" + WATER + "*\n",
        "solvent",
        CATION,
    ),
    "point charges of q-chem": (
        "a.in",
        "$molecule\n1 2\n" + WATER + "$end\n$external_charges\n0 0 4 1\n$end\n",
        "point charges",
        CATION,
    ),
    "point charges of nwchem": (
        "a.nw",
        "charge 1\nnopen 1\ngeometry\n" + WATER + "end\nbq\n 0 0 5 1.0\nend\n",
        "point charges",
        CATION,
    ),
    "symmetry of nwchem": (
        "a.nw",
        "charge 1\nnopen 1\ngeometry\n symmetry group cs\n" + WATER + "end\n",
        "'symmetry group cs' makes no copies of atoms; write all of them",
        CATION,
    ),
    "charges of nwchem": (
        "a.nw",
        "geometry\n symmetry c1\n" + WATER + "end\ntask dft\ncharge 0\ntask dft\ncharge 1\n"
        "nopen 1\ntask dft\n",
        "several values of charge, the last is used; write a file for each",
        CATION,
    ),
    "solvent of turbomole": (
        "coord",
        "$coord angs\n0 0 0.1 o\n0 0.76 0.58 h\n0.05 -0.74 0.61 h\n$cosmo\n$end\n",
        "solvent",
        NEUTRAL,
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_not_used_is_said_in_one_line(tmp_path, caplog, case):
    assert_said(SAID[case], tmp_path, caplog)


@pytest.mark.parametrize(("unit", "length"), [("", 1.83 / BOHR_IN_ANGSTROM), ("units=au", 1.83)])
def test_a_z_matrix_of_gaussian(tmp_path, unit, length):
    path = save(tmp_path, "z.com", f"# hf {unit}\n\nt\n\n-1 1\nO\nH 1 1.83\n\n")
    (molecule,), bad = read_structures([path])
    assert (molecule.charge, bad) == (-1, [])
    assert np.linalg.norm(np.diff(molecule.coords, axis=0)) == pytest.approx(length)


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


@pytest.mark.parametrize(
    ("name", "good", "broken"),
    [
        (
            "a.com",
            f"# hf\n\nt\n\n0 1\n{WATER}\n--Link1--\n",
            "# hf\n\nt\n\n0 1\nO x\n\n--link1--\n",
        ),
        ("a.inp", f"* xyz 0 1\n{WATER}*\n", "* xyz 0 1\nQq 0 0 0\n*\n"),
    ],
    ids=["gaussian", "orca"],
)
def test_a_broken_record_does_not_cost_its_neighbours(tmp_path, name, good, broken):
    assert_costs_itself_only(name, good, broken, tmp_path)


def test_nothing_is_said_of_ordinary_files(tmp_path, caplog):
    text = f"# hf nosymm\n\ncharge of field in a solvent\n\n1 2\n{WATER}\n"
    assert_silent("a.com", text, tmp_path, caplog)


MORE_BAD = {
    "gaussian without route": ("a.gjf", "title\n\n0 1\n" + OH, "expected a route line beginning"),
    "gaussian of two sections": ("a.gjf", "# hf\n\n0 1\n" + OH, "blank lines between them, got 2"),
    "gaussian of a file": ("a.gjf", "# hf\n\nt\n\n0 1\n@water.xyz\n\n", "stand in another file"),
    "gaussian atom of parentheses": (
        "a.gjf", "# hf\n\nt\n\n0 1\nO 0 0 0\n(a)\n\n", "expected an atom, got a blank line",
    ),
    "orca types": (
        "a.inp", "%coords\n CTyp internal\n Charge 0\n Mult 1\n coords\n" + OH + " end\nend\n",
        "expected CTyp xyz, got 'internal'",
    ),
    "orca without multiplicity": (
        "a.inp", "%coords\n Charge 0\n coords\n" + OH + " end\nend\n", "Charge and Mult",
    ),
    "orca elsewhere": ("a.inp", "* xyzfile 0 1 a.xyz\n", "stand in another file"),
    "q-chem state": ("a.in", "$molecule\nzero one\n" + OH + "$end\n", "'charge multiplicity' in $"),
    "q-chem empty": ("a.in", "$molecule\n$end\n", "'charge multiplicity' in $molecule"),
    "nwchem unit": ("a.nw", "geometry units nm\n" + OH + "end\n", "angstroms or bohr, got 'nm'"),
    "nwchem z-matrix": ("a.nw", "geometry\n zmatrix\n O\n end\nend\n", "got zmatrix; internal"),
    "nwchem crystal": (
        "a.nw", "geometry\n system crystal\n" + OH + "end\nend\n", "write it without system",
    ),
    "turbomole file": ("coord", "$coord file=other\n$end\n", "stand in another file"),
    "turbomole empty": ("coord", "$coord\n$end\n", "got no atoms"),
}  # fmt: skip


@pytest.mark.parametrize("case", MORE_BAD)
def test_other_faults(tmp_path, case):
    assert_refused(*MORE_BAD[case], tmp_path)


BOHR = in_bohr(WATER)
IN_BOHR = {
    "gaussian": ("a.gjf", "# hf units=au\n\nt\n\n1 2\n" + BOHR + "\n", CATION),
    "orca": ("a.inp", "! PBE Bohrs\n* xyz 1 2\n" + BOHR + "*\n", CATION),
    "orca coords": (
        "a.inp",
        "%coords\n Charge 1\n Mult 2\n Units bohrs\n coords\n" + BOHR + " end\nend\n",
        CATION,
    ),
    "q-chem": (
        "a.in",
        "$molecule\n1 2\n" + BOHR + "$end\n$rem\nINPUT_BOHR = TRUE\n$end\n",
        CATION,
    ),
    "nwchem": ("a.nw", "charge 1\ngeometry units au\n" + BOHR + "end\nscf; nopen 1; end\n", CATION),
    "turbomole": (
        "coord",
        "$coord\n"
        + "".join(
            " ".join([*line.split()[1:], line.split()[0]]) + "\n" for line in BOHR.splitlines()
        )
        + "$charge\n 1\n$spin\n 1\n$end\n",
        CATION,
    ),
}


@pytest.mark.parametrize("case", IN_BOHR)
def test_coordinates_in_bohr(tmp_path, case):
    assert_water(*IN_BOHR[case], tmp_path)
