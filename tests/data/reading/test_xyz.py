"""xyz and extended xyz: every frame with its charge and spin, one line else."""

import pytest

from .records import (
    CATION,
    NEUTRAL,
    WATER,
    XYZ,
    assert_costs_itself_only,
    assert_refused,
    assert_said,
    assert_silent,
    assert_water,
    in_bohr,
)

GOOD = {
    "key and colon": ("a.xyz", "3\ncharge: 1, Multiplicity: 2\n" + WATER, CATION),
    "colons and bars": ("a.xyz", "3\nx|charge:+1|mult:2\n" + WATER, CATION),
    "json in the title": ("a.xyz", '3\n{"charge": 1, "spin": "1"}\n' + WATER, CATION),
    "typographic minus": ("a.xyz", "3\ncharge=\u22122\n" + WATER.replace("-", "\u2212"), [(-2, 0)]),
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


@pytest.mark.parametrize("case", GOOD)
def test_all_records_with_their_charge_and_spin(tmp_path, case):
    assert_water(*GOOD[case], tmp_path)


BAD = {
    "count alone": ("a.xyz", "0\n", "no atoms"),
    "types of lammps": ("a.xyz", "2\nAtoms. Timestep: 0\n1 0 0 0\n2 0 0 1\n", "are types"),
    "nanometres": ("a.xyz", "3\nunits=nm\n" + WATER, "angstrom or bohr, got 'nm'"),
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
    assert_refused(*BAD[case], tmp_path)


SAID = {
    "charges in one letter": (
        "a.xyz",
        "2\nProperties=species:S:1:pos:R:3:q:R:1\nO 0 0 0 0.6\nO 0 0.1 1.2 0.4\n",
        "q add up to 1 but are results",
        NEUTRAL,
    ),
    "key in brackets": ("a.xyz", "3\n[charge=2] x=1\n" + WATER, "charge= inside", NEUTRAL),
    "key in an open quote": ("a.xyz", '3\na="b charge=2\n' + WATER, "charge= inside", NEUTRAL),
    "title of a published set": (
        "a.xyz",
        "3\nCSD_code = AB | q = 2 | S = 0 | MND = 5\n" + WATER,
        "q=2 is read",
        [(2, 0)],
    ),
}


@pytest.mark.parametrize("case", SAID)
def test_what_is_not_used_is_said_in_one_line(tmp_path, caplog, case):
    assert_said(SAID[case], tmp_path, caplog)


def test_a_broken_record_does_not_cost_its_neighbours(tmp_path):
    assert_costs_itself_only("a.xyz", XYZ, XYZ.replace("0.76", "1e300"), tmp_path)


def test_nothing_is_said_of_ordinary_files(tmp_path, caplog):
    title = "title of x-ray, run A-1 - energy -76.3 E=-1.0e+01"
    assert_silent("a.xyz", f"3\n{title}\n{WATER}", tmp_path, caplog)


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ('pbc="T T"', "expected pbc= of three T or F"),
        ('pbc="1.5 0 0"', "expected pbc= of three T or F"),
        ('Lattice="1 2 3"', "not in the form of a 9-long numerical vector"),
        ("Properties=species:S:1:pos:R", "expected Properties=name:type:columns"),
        ("Properties=species:S:1:pos:X:3", "expected Properties=name:type:columns"),
        ("Properties=species:S:1:pos:R:3:pos:R:3", "expected Properties=name:type:columns"),
        ("Properties=species:S:1:pos:R:0", "expected Properties=name:type:columns"),
        ("Properties=species:S:1:pos:R:2:x:R:1", "expected species and pos in Properties="),
        ("Properties=name:S:1:pos:R:3", "expected species and pos in Properties="),
        ("Properties=species:S:1:pos:R:3 charge=x", "'x'"),
        ("units=pm", "angstrom or bohr, got 'pm'; convert the coordinates"),
        ("units=bohr units=angstrom", "expected one units= in the title, got several"),
        ("units=bohr length_unit=angstrom", "got units=bohr and length_unit=angstrom; leave one"),
        ("unit=angstrom # positions{atomic_unit}", "got positions{atomic_unit} and a key of ano"),
        ('Lattice="3 0 0 0 3 0 0 0 3" Lattice="4 0 0 0 4 0 0 0 4"', "expected one Lattice="),
        ("# Step: 0 forces{atomic_unit} cell{angstrom}", "expected positions, got forces"),
        ("# Step: 0 positions{nanometer} cell{angstrom}", "angstrom or atomic_unit, got 'nanomet"),
    ],
)
def test_titles_that_cannot_be_meant(tmp_path, title, words):
    assert_refused("a.xyz", f"3\n{title}\n{WATER}", words, tmp_path)


@pytest.mark.parametrize(
    ("title", "more", "words"),
    [
        ("in bohr, from a paper", "", "the title speaks of bohr, the coordinates are read in"),
        ("x", " 0.5 -0.2 0.7", "a fifth column adds up to 1 and is not used; write charge="),
        ('cell="9 0 0 0 9 0 0 0 9"', "", "cell= is not used; write Lattice="),
        ("cell_lengths=[9,9,9] lattice_energy=-3", "", "cell_lengths= is not used; write Latt"),
        ("a=9 b=9 c=9 alpha=90", "", "a b c= is not used; write Lattice="),
        ("Cell: 9.0 9.0 9.0 90 90 90", "", "title's 'Cell: 9.0 9.0 9' is not used; write Lat"),
        ("# CELL(abcABC): 9.0 9.0 9.0 90. 90. 90. Step: 0 positions{angstrom}", "", "'CELL(abc"),
        ('PBC="F F F" x=1', "", "PBC= is not used; write pbc="),
        ("units=metal", "", "units=metal is not used: the coordinates are read in angstrom"),
    ],
)
def test_what_is_seen_and_not_used(tmp_path, caplog, title, more, words):
    lines = WATER.splitlines()
    if more:
        lines = [f"{line} {x}" for line, x in zip(lines, more.split(), strict=True)]
    text = f"3\n{title}\n" + "\n".join(lines) + "\n"
    assert_said(("a.xyz", text, words, NEUTRAL), tmp_path, caplog)


@pytest.mark.parametrize("values", ["0.5 -0.2 0.1", "0.5 -0.5 0", "a b c"])
def test_other_fifth_columns_are_nothing_special(tmp_path, caplog, values):
    lines = [f"{line} {x}" for line, x in zip(WATER.splitlines(), values.split(), strict=True)]
    assert_silent("a.xyz", "3\nx\n" + "\n".join(lines) + "\n", tmp_path, caplog)


@pytest.mark.parametrize(
    "title", ["units=au x=1", "Units=Bohr unit=bohr", "# Step: 0 Bead: 0 positions{atomic_unit}"]
)
def test_titles_in_atomic_units(tmp_path, title):
    assert_water("a.xyz", f"3\n{title}\n{in_bohr(WATER)}", NEUTRAL, tmp_path)


def test_atomic_numbers_and_names_in_one_file(tmp_path):
    rows = [f"{z} {line}" for z, line in zip((8, 1, 1), WATER.splitlines(), strict=True)]
    title = "Properties=Z:I:1:species:S:1:pos:R:3"
    assert_water("a.xyz", f"3\n{title}\n" + "\n".join(rows) + "\n", NEUTRAL, tmp_path)
    title = "Properties=Z:I:1:name:S:1:pos:R:3"
    assert_water("b.xyz", f"3\n{title}\n" + "\n".join(rows) + "\n", NEUTRAL, tmp_path)
