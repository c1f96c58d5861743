"""PDB files: models, elements from names, charges by columns, one line else."""

import pytest

from .records import (
    NEUTRAL,
    assert_costs_itself_only,
    assert_refused,
    assert_said,
    assert_silent,
    assert_water,
)


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
