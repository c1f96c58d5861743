"""Words of structure files: numbers as programs write them, elements, and nothing of Python's."""

import numpy as np
import pytest
from ase.data import chemical_symbols

from deeph_zero.data.reading.words import (
    atom_line,
    check_size,
    element,
    integer,
    is_ambiguous,
    molecule,
    number,
    quote,
    refusal,
    two_meanings,
)
from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM


def silent(text):
    pytest.fail(f"nothing is to be said, got {text}")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("1", 1.0), ("-2.5", -2.5), ("+.5", 0.5), ("3.", 3.0), ("1e3", 1000.0), ("1.5D-02", 0.015),
        ("2d+1", 20.0), ("5.*^-2", 0.05), ("\u22120.5", -0.5), ("INF", np.inf), ("-inf", -np.inf),
        ("Infinity", np.inf), ("1e999", np.inf),
    ],
)  # fmt: skip
def test_numbers_as_programs_write_them(word, value):
    assert number(word) == value


@pytest.mark.parametrize(
    "word",
    ["", "x", "1_0", "0x10", "1,5", "1.2.3", "1e", "--1", "\uff11", "1 2", " 1", "e5", ".", "1j"],
)
def test_what_is_no_number(word):
    assert number(word) is None


def test_not_a_number_is_one():
    assert np.isnan(number("nan"))
    assert np.isnan(number("-NaN"))


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("7", 7), (" -3 ", -3), ("+0", 0), ("10000000", 10**7), ("10000001", None), ("1.0", None),
        ("", None), ("1_0", None), ("\uff11", None), ("9" * 20, None), ("-10000001", None),
    ],
)  # fmt: skip
def test_whole_numbers(word, value):
    assert integer(word) == value


def test_largest_whole_number_is_the_callers():
    assert (integer("118", 118), integer("119", 118), integer("-119", 118)) == (118, None, None)


@pytest.mark.parametrize("z", [1, 2, 6, 17, 26, 79, 118])
def test_elements_in_any_case(z):
    symbol = chemical_symbols[z]
    for word in (symbol, symbol.upper(), symbol.lower(), str(z)):
        assert element(word, silent) == z


@pytest.mark.parametrize(
    ("word", "z"), [("O1", 8), ("h_2", 1), ("Cl(12)", 17), ("N-3", 7), ("Fe23", 26)]
)
def test_labels_of_atoms(word, z):
    assert element(word, silent) == z


def test_isotopes_are_hydrogen_and_said():
    said = []
    assert [element(word, said.append) for word in ("D", "t", "D1")] == [1, 1, 1]
    assert len(said) == 3
    assert all("their mass is not used" in line for line in said)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("X", "ghost atoms are not supported"), ("Bq", "ghost"), ("@C", "ghost"), ("O:", "ghost"),
        ("Gh(C)", "ghost"), ("H-Bq", "ghost"), ("ghost-H", "ghost"), ("Bq-1", "ghost"),
        ("CA1", "may be C or Ca; write one"), ("Hg_2", None), ("Qq", "expected an element symbol"),
        ("0", "expected an element symbol"), ("119", "expected an element"), ("-1", "symbol"),
        ("", "expected an element symbol"), ("Oxygen", "expected an element symbol, got 'Oxygen'"),
    ],
)  # fmt: skip
def test_what_is_no_element(word, message):
    if message is None:
        assert element(word, silent) == 80
        return
    with pytest.raises(InputError, match=message):
        element(word, silent)


def test_names_with_two_meanings():
    assert is_ambiguous("CA")
    assert not is_ambiguous("CL")
    assert "'CD2', which may be C or Cd" in two_meanings("CD2")


def test_lines_of_atoms():
    assert atom_line("O 0 -1.5 2D0 0.3 more", silent) == (8, [0.0, -1.5, 2.0])
    for line in ("O 0 0", "O 0 0 x", "", "8"):
        with pytest.raises(InputError, match="expected 'symbol x y z', got"):
            atom_line(line, silent)


def test_molecules_in_either_unit():
    lines = ["O 0 0 0.2", "H 0 1.4 1.1"]
    one, other = molecule(lines, silent), molecule(lines, silent, bohr=True)
    assert one.numbers.tolist() == [8, 1]
    np.testing.assert_allclose(other.positions, one.positions * BOHR_IN_ANGSTROM, atol=1e-15)
    with pytest.raises(InputError, match="got no atoms; leave the frame out"):
        molecule([], silent)
    with pytest.raises(InputError, match="leave out what follows"):
        molecule(["O 0 0 0 0.5"], silent)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"expected finite coordinates, got 0 nan 0 for atom 2 \(H\)"),
        (np.inf, "expected finite coordinates"),
        (-2e6, r"expected coordinates up to 1e\+06 angstrom, got 0 -2e\+06 0 for atom 2"),
    ],
)
def test_sizes_that_molecules_have(value, message):
    positions = np.zeros((3, 3))
    check_size(positions + 1e6, np.array([8, 1, 1]))
    positions[1, 1] = value
    with pytest.raises(InputError, match=message):
        check_size(positions, np.array([8, 1, 1]))
    with pytest.raises(InputError, match=r"atom 2 \(Z = 200\)"):
        check_size(positions, np.array([8, 200, 1]))


def test_quotations_are_short_and_of_one_line():
    assert quote("a\n b\tc") == "'a b c'"
    assert quote("x" * 1000) == repr("x" * 37 + "...")
    assert len(quote("y" * 41)) == 42
    assert quote("\0") == r"'\x00'"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ValueError("could not convert string to float: '0 0 3\\n'"),
            "expected a number, got '0 0 3",
        ),
        (ValueError("invalid literal for int() with base 10: 'x'"), "expected a number, got 'x'"),
        (ValueError("could not convert string 'He' to float64 at row 0"), "a number, got 'He'"),
        (IndexError("list index out of range"), "a value or a line is missing or is too many"),
        (ValueError("not enough values to unpack (expected 4, got 2)"), "a value or a line is"),
        (TypeError("'NoneType' object is not subscriptable"), "a value or a line is missing"),
        (AssertionError(), "it is another kind of file"),
        (KeyError("He1"), "'He1'"),
        (ValueError("Unknown space group\nmore"), "Unknown space group"),
    ],
)
def test_reasons_are_no_words_of_python(error, words):
    said = str(refusal("cif", error))
    assert said.startswith("expected a structure in the format cif, ASE cannot read it (")
    assert words in said
    assert "\n" not in said
