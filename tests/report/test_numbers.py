"""Numbers of a summary as text: what is none, units, formulas, names."""

import math

import pytest

from deeph_zero.predict import crystal_intervals, intervals
from deeph_zero.report.numbers import (
    IN_INTERVALS,
    duration,
    formula,
    interval,
    length,
    millivolt,
    number,
    numbers,
    plural,
    says_something,
    show,
    significant,
    small_energy,
    sort_key,
    structure_name,
)
from deeph_zero.units import HARTREE_IN_EV


def test_every_quantity_with_an_interval_has_a_name():
    of_crystals = {"free_energy", "fermi", *crystal_intervals.MANY}
    assert {*intervals.LEVELS, *intervals.NOT_LEVELS, *of_crystals} == IN_INTERVALS.keys()


def test_words_for_numbers():
    assert formula(["H", "C", "H", "H", "H"], 1) == "CH₄⁺"
    assert formula(["O", "H"], -1) == "HO⁻"
    assert formula(["S", "O", "O", "O", "O"], -2) == "O₄S²⁻"
    assert [small_energy(e) for e in (2.5e-3, 3.4e-6, 8e-9, 1e-12, None)] == [
        "2.5 mEh", "3.4 µEh", "8.0 nEh", "less than 0.1 nEh", "–",
    ]  # fmt: skip
    assert [duration(s) for s in (4.2, 83.2, 7500.0, None)] == [
        "4.2 s", "1 min 23 s", "2 h 5 min", "–",
    ]  # fmt: skip
    assert structure_name({"file": "smiles:F/C=C/F", "frame": 0}) == "smiles:F/C=C/F:0"
    assert show([1.0, None], ".1f") == "1.0 / –"
    assert interval(-0.19313, -0.18, 4) == "-0.1931 to -0.1800"
    assert interval(-0.19313046, -0.19312835, 4) == "-0.1931305 to -0.1931284"
    assert interval(3.0, 3.0, 3) == "3.000 to 3.000"
    assert interval(1.0, 1.0 + 4e-16, 3) == "1.000000000000 to 1.000000000000"
    assert show(float("nan"), ".1f") == "–"


@pytest.mark.parametrize("value", [None, "1.0", True, False, math.nan, math.inf, 10**400, [1], {}])
def test_what_is_no_number(value):
    assert number(value) is None


@pytest.mark.parametrize(
    ("value", "parts", "norm", "key", "text"),
    [
        (3, [3.0], None, 3.0, "3.00"),
        ([0.5, -1.5], [0.5, -1.5], math.sqrt(2.5), 0.5, "0.50 / -1.50"),
        ([None, 2.0], [None, 2.0], None, 2.0, "– / 2.00"),
        ((3.0, 4.0, 12.0), [3.0, 4.0, 12.0], 13.0, 3.0, "3.00 / 4.00 / 12.00"),
        ([], [], None, None, "–"),
        ("much", [None], None, None, "–"),
        (None, [None], None, None, "–"),
    ],
)
def test_one_number_or_one_per_spin(value, parts, norm, key, text):
    assert numbers(value) == parts
    assert length(value) == (None if norm is None else pytest.approx(norm))
    assert sort_key(value) == key
    assert show(value, ".2f") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1000 mEh"), (1e-3, "1.0 mEh"), (9.99e-4, "999 µEh"), (1e-7, "0.10 µEh"),
     (9.9e-8, "99 nEh"), (-2.5e-3, "-2.5 mEh"), (1e-10, "0.10 nEh"), (0.0, "less than 0.1 nEh")],
)  # fmt: skip
def test_small_energies_have_two_digits(value, text):
    assert small_energy(value) == text


def test_millivolts():
    assert millivolt(1 / HARTREE_IN_EV / 1e3) == "1.0 meV"
    assert millivolt(-1e-3) == f"{-HARTREE_IN_EV:.0f} meV"
    assert millivolt(1e-9) == "below 0.001 meV"


@pytest.mark.parametrize("value", [1e-12, 0.00123, 0.5, 1.0, 9.99, 123.4, 98765.0, -0.0456])
@pytest.mark.parametrize("digits", [1, 2, 4])
def test_significant_digits_are_right_to_half_of_the_last(value, digits):
    text = significant(value, digits)
    assert "e" not in text
    place = 10.0 ** min(0, math.floor(math.log10(abs(value))) - digits + 1)
    assert float(text) == pytest.approx(value, abs=0.5001 * place)
    assert significant(0.0, digits) == "0"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0 s"), (59.94, "59.9 s"), (60.0, "1 min 0 s"), (3599.6, "1 h 0 min"), (-1.0, "–")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("symbols", "charge", "text"),
    [
        ([], 0, ""),
        (["H", "H", "O"], 0, "H₂O"),
        (["C"] * 12 + ["Au"], 0, "C₁₂Au"),
        (["Na", "Cl"], 0, "ClNa"),
        (["N", "H", "H", "H", "H"], 1, "H₄N⁺"),
        (["H"], -3, "H³⁻"),
    ],
)
def test_formulas_are_hills(symbols, charge, text):
    assert formula(symbols, charge) == text


def test_counts_and_names():
    assert [plural(k, "frame") for k in (0, 1, 2)] == ["0 frames", "1 frame", "2 frames"]
    assert structure_name({"file": "a/b.xyz", "frame": 0}) == "b.xyz:0"
    assert structure_name({"file": "a/b.xyz"}) == "b.xyz"
    assert structure_name({}) == "–"


@pytest.mark.parametrize(
    ("key", "entries", "shown"),
    [
        ("charge", [{"charge": 0}, {"charge": 0}], False),
        ("charge", [{"charge": 0}, {"charge": -1}], True),
        ("spin", [{}], False),
        ("energy", [{"energy": None}], False),
        ("energy", [{"energy": None}, {"energy": -1.0}], True),
        ("energy", [{}], False),
        ("residual_mae", [{"residual_mae": None}], False),
        ("residual_mae", [{"residual_mae": None}, {"residual_mae": 0.0}], True),
        ("dipole", [{"kmesh": [1, 1, 1], "dipole": None}], False),
        ("fermi", [{"kmesh": [1, 1, 1], "fermi": 0.0}], True),
        ("free_energy", [{"kmesh": [1, 1, 1], "energy": -1.0, "free_energy": -1.0}], False),
        ("free_energy", [{"kmesh": [1, 1, 1], "energy": -1.0, "free_energy": -1.1}], True),
        ("free_energy", [{"energy": None, "free_energy": None}, {"energy": -1.0}], False),
    ],
)
def test_what_is_worth_a_place(key, entries, shown):
    assert says_something(key, entries) is shown
