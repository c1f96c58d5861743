"""What a file states besides a molecule that can be used: one line for each file, and no more."""

import ase.io
import pytest
from ase import Atoms

from deeph_zero.data.structures import read_structures

WATER = "O 0 0 0.1\nH 0 0.76 0.58\nH 0.05 -0.74 0.61\n"
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
PDB = (
    "HETATM    1  O   HOH A   1       0.000   0.000   0.100  1.00  0.00           O\n"
    "HETATM    2  H1  HOH A   1       0.000   0.760   0.580  1.00  0.00           H\n"
    "HETATM    3  H2  HOH A   1       0.050  -0.740   0.610  1.00  0.00           H\n"
)
NEUTRAL, CATION = [(0, 0)], [(1, 1)]
H_ONLY_ON_O = (
    "a\n  b\n\n  3  2  0  0  0  0  0  0  0  0999 V2000\n"
    "    0.0000    0.0000    0.0000 C   0  0  0\n    1.4000    0.0000    0.1000 O   0  0  0\n"
    "    1.9000    0.9000    0.0000 H   0  0  0\n  1  2  1  0\n  2  3  1  0\n{}M  END\n"
)
MOL2_WATER = (
    "@<TRIPOS>MOLECULE\nw\n 3 2\nSMALL\nUSER_CHARGES\n\n@<TRIPOS>ATOM\n 1 O 0 0 0.1 O.3 1 W -0.8\n"
    " 2 H 0 0.76 0.58 H 1 W 0.4\n 3 H 0.05 -0.74 0.61 H 1 W 0.4\n"
    "@<TRIPOS>BOND\n 1 1 2 1\n 2 1 3 1\n"
)
SAID = {
    "point charges of gaussian": (
        "a.com", "# hf charge\n\nt\n\n1 2\n" + WATER + "\n3 0 0 1\n\n", "point charges", CATION,
    ),
    "solvent of gaussian": (
        "a.com", "#p hf scrf=(smd)\n\nt\n\n1 2\n" + WATER + "\n", "solvent", CATION,
    ),
    "field of gaussian": (
        "a.com", "# hf field=x+10\n\nt\n\n1 2\n" + WATER + "\n", "electric field", CATION,
    ),
    "isotopes of gaussian": (
        "a.com", "# hf\n\nt\n\n1 2\n" + WATER.replace("H", "H(Iso=2)", 1) + "\n", "Iso=", CATION,
    ),
    "geometry of another job": (
        "a.com",
        "# opt\n\nt\n\n1 2\n" + WATER + "\n--Link1--\n# freq geom=allcheck\n\n",
        "geom=check",
        CATION,
    ),
    "point charges of orca": (
        "a.inp", '! PBE\n%pointcharges "a"\n* xyz 1 2\n' + WATER + "*\n", "point charges", CATION,
    ),
    "solvent of orca": (
        "a.inp", "! PBE CPCM(water)\n* xyz 1 2\n" + WATER + "*\n", "solvent", CATION,
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
    "solvent of turbomole": (
        "coord",
        "$coord angs\n0 0 0.1 o\n0 0.76 0.58 h\n0.05 -0.74 0.61 h\n$cosmo\n$end\n",
        "solvent",
        NEUTRAL,
    ),
    "isotopes of mol": ("a.mol", MOL.format("M  ISO  1   2   2\n"), "mass is not used", NEUTRAL),
    "isotopes of v3000": (
        "a.mol", V3000.replace("0.61 0", "0.61 0 MASS=2"), "mass is not used", CATION,
    ),
    "mol without hydrogens": ("a.mol", H_ONLY_ON_O.format(""), "free valences", NEUTRAL),
    "cell of mol2": (
        "a.mol2",
        MOL2_WATER + "@<TRIPOS>CRYSIN\n9 9 9 90 90 90 1 1\n",
        "CRYSIN",
        NEUTRAL,
    ),
    "pdb without hydrogens": ("a.pdb", PDB.split("\n", 1)[0] + "\n", "without hydrogens", NEUTRAL),
    "charges in one letter": (
        "a.xyz",
        "2\nProperties=species:S:1:pos:R:3:q:R:1\nO 0 0 0 0.6\nO 0 0.1 1.2 0.4\n",
        "q add up to 1 but are results",
        NEUTRAL,
    ),
    "key in brackets": ("a.xyz", "3\n[charge=2] x=1\n" + WATER, "charge= inside", NEUTRAL),
    "key in an open quote": ("a.xyz", '3\na="b charge=2\n' + WATER, "charge= inside", NEUTRAL),
    "title of a published set": (
        "a.xyz", "3\nCSD_code = AB | q = 2 | S = 0 | MND = 5\n" + WATER, "q=2 is read", [(2, 0)],
    ),
}  # fmt: skip


def save(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("case", SAID)
def test_what_is_not_used_is_said_in_one_line(tmp_path, caplog, case):
    name, text, words, states = SAID[case]
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, bad = read_structures([save(tmp_path, name, text)])
    assert (bad, [(m.charge, m.spin) for m in molecules]) == ([], states)
    lines = [record.getMessage() for record in caplog.records]
    assert [words in line for line in lines] == [True]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mol", H_ONLY_ON_O.format("M  CHG  1   1   1\n")),
        ("a.mol", MOL.format("")),
        ("a.xyz", "3\ntitle of x-ray, run A-1 - energy -76.3 E=-1.0e+01\n" + WATER),
        ("a.mol2", MOL2_WATER),
        ("a.pdb", PDB),
        ("a.com", "# hf nosymm\n\ncharge of field in a solvent\n\n1 2\n" + WATER + "\n"),
    ],
)
def test_nothing_is_said_of_ordinary_files(tmp_path, caplog, name, text):
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, bad = read_structures([save(tmp_path, name, text)])
    assert (len(molecules), bad, caplog.records) == (1, [], [])


def test_a_molecule_in_a_box_is_said(tmp_path, caplog):
    path = tmp_path / "a.traj"
    ase.io.write(path, Atoms("O2", [[0, 0, 0], [0, 0.1, 1.2]], cell=[9, 9, 9]))
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, _ = read_structures([path])
    assert len(molecules) == 1
    assert ["cell is not used" in r.getMessage() for r in caplog.records] == [True]
