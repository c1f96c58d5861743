"""Which reader a text goes to, by content before the name's ending."""

import pytest

from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.recognise import format_of
from deeph_zero.data.structures import read_structures

from .records import NEUTRAL, WATER, XYZ, assert_water, save

GOOD = {
    "xyz named .out": ("a.out", XYZ * 2, NEUTRAL * 2),
    "xyz without suffix": ("frames", XYZ, NEUTRAL),
}


@pytest.mark.parametrize("case", GOOD)
def test_all_records_with_their_charge_and_spin(tmp_path, case):
    assert_water(*GOOD[case], tmp_path)


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


MOL = "a\n  b\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    0.0    0.0    0.0 O   0  0\nM  END\n"
OLD_MOL = "a\n  b\n\n  1  0\n    0.0000    0.0000    0.0000 O   0  0\n"
PDB = "ATOM      1  O   HOH A   1       0.000   0.000   0.100  1.00  0.00           O\n"
TEXTS = {
    "xyz": XYZ,
    "mol": MOL,
    "mol ": OLD_MOL,
    "mol2": "# made\n@<TRIPOS>MOLECULE\nw\n",
    "pdb": "REMARK 1\n" + PDB,
    "gaussian-in": "%mem=1GB\n# hf\n\ntitle\n\n0 1\n" + WATER,
    "gaussian-in ": "# hf\n\ntitle\n\n0,1\n" + WATER,
    "gaussian-out": " Entering Gaussian System, Link 0=g16\n",
    "orca-in": "! PBE\n  * xyz 0 1\n" + WATER,
    "orca-in ": "%coords\n CTyp xyz\n",
    "orca-out": "   * O   R   C   A *\n",
    "qchem-in": "$molecule\n0 1\n",
    "qchem-out": "  Welcome to Q-Chem\n$molecule\n",  # an output repeats its input
    "nwchem-in": "charge 1\ngeometry units au\n" + WATER + "end\n",
    "nwchem-out": " Northwest Computational Chemistry Package\n",
    "gamess-us-out": " GAMESS VERSION = 30 JUN 2020\n",
    "turbomole": "$coord\n 0 0 0 o\n",
    "turbomole-gradient": "$grad\n$coord\n",
    "aims": "lattice_vector 1 0 0\natom 0.0 0.0 0.1 O\n",
    "aims ": "atom_frac 0.0 0.0 0.1 O\n",
    "espresso-xml": '<?xml version="1.0"?>\n<qes:espresso xmlns:qes="x">\n',
}


@pytest.mark.parametrize("case", TEXTS)
@pytest.mark.parametrize("suffix", ["", ".txt", ".out", ".pdb"])
def test_content_decides(case, suffix):
    assert format_of(TEXTS[case], suffix) == case.strip()


@pytest.mark.parametrize(
    ("suffix", "name"),
    [
        (".xyz", "xyz"), (".extxyz", "xyz"), (".sdf", "mol"), (".mdl", "mol"), (".mol2", "mol2"),
        (".ent", "pdb"), (".gjf", "gaussian-in"), (".smi", "smiles"), (".txt", None), ("", None),
        (".json", None), (".cif", "cif"), (".traj", None),
    ],
)  # fmt: skip
def test_the_ending_decides_where_content_is_silent(suffix, name):
    assert format_of("nothing that tells\n", suffix) == name


@pytest.mark.parametrize("suffix", ["", ".txt", ".cif", ".mcif"])
def test_a_data_block_of_a_crystal(suffix):
    assert format_of("# made\ndata_x\n_cell_length_a 4.0\n", suffix) == "cif"


def test_marks_far_behind_are_not_looked_for():
    assert format_of("x\n" * 40_000 + "$coord\n", ".txt") is None


def test_a_count_is_a_frame_of_xyz_where_the_ending_says_so():
    """However broken what follows is; other endings promise nothing."""
    assert format_of("3\n\n* xyz 0 1\n", ".xyz") == "xyz"
    assert format_of("3\n\n* xyz 0 1\n", ".inp") == "orca-in"


def test_other_programs_are_refused_where_one_file_is_one_structure():
    text = "memory 1 gb\n\nmolecule h2o {\n 0 1\n" + WATER + "}\n"
    with pytest.raises(WholeFileError, match="got an input of Psi4"):
        format_of(text, ".txt")
    assert format_of(text, ".sdf") == "mol"  # a word in a title costs no file of many
