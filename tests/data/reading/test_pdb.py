"""PDB files: models, elements from names, charges by columns, one line else."""

import pytest

from deeph_zero.data.structures import read_structures

from .records import (
    NEUTRAL,
    PDB,
    assert_costs_itself_only,
    assert_refused,
    assert_said,
    assert_silent,
    assert_water,
    pdb_line,
    save,
)

GOOD = {
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
}


@pytest.mark.parametrize("case", GOOD)
def test_all_records_with_their_charge_and_spin(tmp_path, case):
    assert_water(*GOOD[case], tmp_path)


BAD = {
    "calcium or carbon": ("a.pdb", pdb_line("CA  ", (0, 0, 0), residue="LIG"), "may be C or Ca"),
    "pdb charge": ("a.pdb", PDB.replace(" O\n", " Oxx\n"), "columns 79-80"),
    "pdb cell": (
        "a.pdb",
        "CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 P 1\n" + PDB,
        "periodic",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_record_is_one_line_with_a_cure(tmp_path, case):
    assert_refused(*BAD[case], tmp_path)


SAID = {
    "pdb without hydrogens": ("a.pdb", PDB.split("\n", 1)[0] + "\n", "without hydrogens", NEUTRAL),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_not_used_is_said_in_one_line(tmp_path, caplog, case):
    assert_said(SAID[case], tmp_path, caplog)


def test_a_broken_record_does_not_cost_its_neighbours(tmp_path):
    good = f"MODEL 1\n{PDB}ENDMDL\n"
    assert_costs_itself_only("a.pdb", good, good.replace("0.760", "x.xxx"), tmp_path)


def test_nothing_is_said_of_ordinary_files(tmp_path, caplog):
    assert_silent("a.pdb", PDB, tmp_path, caplog)


MORE_BAD = {
    "no records": ("a.pdb", "REMARK 1\nEND\n", None, "expected ATOM or HETATM records, got none"),
    "lengths": (
        "a.pdb", "CRYST1    9.000    x.xxx    9.000  90.00  90.00  90.00 P 1\n" + PDB, 0,
        "expected three lengths in CRYST1",
    ),
    "angles": (
        "a.pdb", "CRYST1    9.000    9.000    9.000  90.00  90.00 190.00 P 1\n" + PDB, 0,
        "expected three angles in CRYST1",
    ),
    "coordinates": ("a.pdb", PDB.replace("0.760", "  abc"), 0, "correct the line"),
    "no name": (
        "a.pdb", pdb_line("    ", (0, 0, 0)), 0, "expected an element in columns 77-78 or an atom",
    ),
    "a ghost": ("a.pdb", PDB.replace(" O\n", " X\n"), 0, "ghost atoms are not supported"),
}  # fmt: skip


@pytest.mark.parametrize("case", MORE_BAD)
def test_other_faults(tmp_path, case):
    name, text, frame, words = MORE_BAD[case]
    molecules, bad = read_structures([save(tmp_path, name, text)], crystals=True)
    assert molecules == []
    assert [b.frame for b in bad] == [frame]
    assert words in bad[0].error


def test_an_empty_model_among_others(tmp_path):
    text = f"MODEL 1\n{PDB}ENDMDL\nMODEL 2\nENDMDL\nMODEL 3\n{PDB}ENDMDL\n"
    molecules, bad = read_structures([save(tmp_path, "a.pdb", text)])
    assert [m.frame for m in molecules] == [0, 2]
    assert "expected a molecule, got a model without atoms" in bad[0].error


@pytest.mark.parametrize(
    ("name", "residue", "number"),
    [
        (" CA ", "GLY", 6), (" CA ", "XYZ", 6), ("CA  ", "CA", 20), ("ZN  ", "ZN", 30),
        ("CL  ", "LIG", 17),
        ("FE  ", "HEM", 26), ("1HB ", "ALA", 1), ("HG11", "VAL", 1), (" SD ", "MET", 16),
        ("SE  ", "MSE", 34), ("JX  ", "LIG", None), ("OXT ", "LIG", 8), (" N  ", "DA", 7),
    ],
)  # fmt: skip
def test_elements_of_names(tmp_path, name, residue, number):
    """Right-justified in columns 13-14; residues whose elements are known come first."""
    path = save(tmp_path, "a.pdb", pdb_line(name, (0, 0, 0), residue=residue))
    molecules, bad = read_structures([path], spin=None)
    if number is None:
        assert "expected an element symbol" in bad[0].error
        return
    found = [m.numbers.tolist() for m in molecules] or [bad[0].error]
    assert found == [[number]] or "electron" in str(found[0])


def test_the_first_of_alternative_locations_is_taken(tmp_path, caplog):
    one = pdb_line(" O  ", (0, 0, 0.1), " O")
    first, second = (
        one[:16] + label + one[17:30] + f"{x:8.3f}" + one[38:] for label, x in (("A", 0), ("B", 2))
    )
    hydrogens = "".join(PDB.splitlines(keepends=True)[1:])
    with caplog.at_level("WARNING", logger="deeph_zero"):
        (molecule,), bad = read_structures([save(tmp_path, "a.pdb", first + second + hydrogens)])
    assert (bad, molecule.numbers.tolist()) == ([], [8, 1, 1])
    assert molecule.coords[0, 0] == 0
    assert "alternative location B is left out" in caplog.records[0].getMessage()
