"""mol, SD and mol2 files: every record with its charge and spin, one line else."""

import pytest

from deeph_zero.data.structures import read_structures

from .records import (
    CATION,
    NEUTRAL,
    assert_costs_itself_only,
    assert_refused,
    assert_said,
    assert_silent,
    assert_water,
    save,
)

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
MOL2_WATER = (
    "@<TRIPOS>MOLECULE\nw\n 3 2\nSMALL\nUSER_CHARGES\n\n@<TRIPOS>ATOM\n 1 O 0 0 0.1 O.3 1 W -0.8\n"
    " 2 H 0 0.76 0.58 H 1 W 0.4\n 3 H 0.05 -0.74 0.61 H 1 W 0.4\n"
    "@<TRIPOS>BOND\n 1 1 2 1\n 2 1 3 1\n"
)
H_ONLY_ON_O = (
    "a\n  b\n\n  3  2  0  0  0  0  0  0  0  0999 V2000\n"
    "    0.0000    0.0000    0.0000 C   0  0  0\n    1.4000    0.0000    0.1000 O   0  0  0\n"
    "    1.9000    0.9000    0.0000 H   0  0  0\n  1  2  1  0\n  2  3  1  0\n{}M  END\n"
)


GOOD = {
    "mol2 attributes": (
        "a.mol2",
        MOL2_WATER.replace("0.61 H 1 W 0.4", "0.61 H 1 W 0.5")
        + "@<TRIPOS>UNITY_ATOM_ATTR\n1 1\ncharge 2\n",
        [(2, 0)],
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
}


@pytest.mark.parametrize("case", GOOD)
def test_all_records_with_their_charge_and_spin(tmp_path, case):
    assert_water(*GOOD[case], tmp_path)


BAD = {
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
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_record_is_one_line_with_a_cure(tmp_path, case):
    assert_refused(*BAD[case], tmp_path)


SAID = {
    "isotopes of mol": ("a.mol", MOL.format("M  ISO  1   2   2\n"), "mass is not used", NEUTRAL),
    "isotopes of v3000": (
        "a.mol",
        V3000.replace("0.61 0", "0.61 0 MASS=2"),
        "mass is not used",
        CATION,
    ),
    "mol without hydrogens": ("a.mol", H_ONLY_ON_O.format(""), "free valences", NEUTRAL),
    "cell of mol2": (
        "a.mol2",
        MOL2_WATER + "@<TRIPOS>CRYSIN\n9 9 9 90 90 90 1 1\n",
        "CRYSIN",
        NEUTRAL,
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_not_used_is_said_in_one_line(tmp_path, caplog, case):
    assert_said(SAID[case], tmp_path, caplog)


def test_a_broken_record_does_not_cost_its_neighbours(tmp_path):
    good = MOL.format("") + "$$$$\n"
    assert_costs_itself_only("a.sdf", good, good.replace("H ", "Qq", 1), tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.mol", H_ONLY_ON_O.format("M  CHG  1   1   1\n")),
        ("a.mol", MOL.format("")),
        ("a.mol2", MOL2_WATER),
    ],
)
def test_nothing_is_said_of_ordinary_files(tmp_path, caplog, name, text):
    assert_silent(name, text, tmp_path, caplog)


MORE_BAD = {
    "three lines": ("a.sdf", "a\n  b\n\n$$$$\n", "expected three lines of title and a counts line"),
    "counts": ("a.mol", MOL.format("").replace("  3  2", "  x  2"), "the numbers of atoms and bon"),
    "bond": ("a.mol", MOL.format("").replace("  1  3  1", "  1  x  1"), "expected 2 bonds, got"),
    "bonds cut off": ("a.mol", MOL.split("  1  3  1")[0].format(""), "expected 2 bonds"),
    "position": ("a.mol", MOL.format("").replace("0.7600", "x.xxxx"), "expected 'x y z symbol'"),
    "radical": ("a.mol", MOL.format("M  RAD  1   1   4\n"), "expected a radical of 0 to 3, got 4"),
    "pairs": ("a.mol", MOL.format("M  CHG  2   1   1\n"), "a count and that many pairs"),
    "v3000 counts": ("a.mol", V3000.replace("COUNTS 3", "NUMBERS"), "'M  V30 COUNTS atoms bonds'"),
    "v3000 atoms": ("a.mol", V3000.replace("COUNTS 3", "COUNTS 4"), "expected 4 atoms as COUNTS"),
    "v3000 charge": ("a.mol", V3000.replace("CHG=1", "CHG=x"), "expected CHG= of -15 to 15, got"),
    "v3000 radical": ("a.mol", V3000.replace("RAD=2", "RAD=9"), "expected a radical of 0 to 3"),
    "v3000 position": ("a.mol", V3000.replace("0 0 0.1 0", "0 0 x 0"), "expected 'symbol x y z'"),
    "mol2 count": ("a.mol2", MOL2_WATER.replace(" 3 2\n", " x 2\n"), "a count and @<TRIPOS>ATOM"),
    "mol2 words": ("a.mol2", MOL2_WATER.replace(" H 1 W 0.4\n 3", "\n 3"), "'id name x y z type'"),
    "mol2 charge": (
        "a.mol2", MOL2_WATER + "@<TRIPOS>UNITY_ATOM_ATTR\n1 1\ncharge x\n",
        "expected whole charges in UNITY_ATOM_ATTR",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MORE_BAD)
def test_other_faults(tmp_path, case):
    assert_refused(*MORE_BAD[case], tmp_path)


def test_a_drawing_is_said_to_be_one(tmp_path, caplog):
    """Marked 2D, and no atom of several has a height."""
    flat = (
        "a\n" + " " * 20 + "2D\n\n  4  0  0  0  0  0  0  0  0  0999 V2000\n"
        + "".join(f"{k * 1.1:10.4f}{k % 2:10.4f}{0:10.4f} H   0  0\n" for k in range(4))
        + "M  END\n"
    )  # fmt: skip
    words = "the record is marked 2D: it may be a drawing"
    assert_said(("a.mol", flat, words, NEUTRAL), tmp_path, caplog)
    raised = flat.replace(f"{1:10.4f}{0:10.4f} H", f"{1:10.4f}{0.5:10.4f} H")
    caplog.clear()
    assert_silent("b.mol", raised, tmp_path, caplog)


@pytest.mark.parametrize(
    ("code", "charge", "spin"), [(1, 3, 1), (2, 2, 0), (3, 1, 1), (4, 0, 1), (5, -1, 1), (0, 0, 0)]
)
def test_old_codes_of_charges(tmp_path, code, charge, spin):
    text = MOL.replace("O   0  0", f"O   0  {code}").format("")
    molecules, bad = read_structures([save(tmp_path, "a.mol", text)], spin=spin)
    assert (bad, [(m.charge, m.spin) for m in molecules]) == ([], [(charge, spin)])


def test_words_in_place_of_columns_and_no_end(tmp_path):
    """Some programs write neither the columns nor the last line."""
    atoms = "0 0 0.1 O 0 0\n0 0.76 0.58 H 0 0\n0.05 -0.74 0.61 H 0 0\n"
    text = "a\n  b\n\n  3  0  0  0  0  0  0  0  0  0999 V2000\n" + atoms
    assert_water("a.mol", text, NEUTRAL, tmp_path)


def test_data_fields_of_a_record(tmp_path):
    """One line each; those of several lines state nothing."""
    fields = (
        "> <total_charge>\n1\n\n> <multiplicity> (7)\n2\n\n> <comment>\nspin=3\nof two lines\n\n"
    )
    assert_water("a.sdf", MOL.format("") + fields + "$$$$\n", CATION, tmp_path)
