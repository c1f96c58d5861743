"""The unit of lengths that keys of a file state."""

import pytest

from deeph_zero.data.reading.length_units import is_bohr, is_unit_key, stated_in_bohr
from deeph_zero.errors import InputError


def unheard(message):
    raise AssertionError(message)


def test_names_of_units_and_keys():
    units = ("a.u.", "Bohr", "\u00c5", "Ang", "nm", "")
    assert [is_bohr(unit) for unit in units] == [True, True, False, False, None, None]
    assert [is_unit_key(key) for key in ("Units", "r_unit", "e_unit")] == [True, True, False]


@pytest.mark.parametrize(
    ("stated", "bohr"),
    [
        ({}, None),
        ({"units": ""}, None),
        ({"units": "au"}, True),
        ({"units": "angstrom", "pos_unit": "A"}, False),
    ],
)
def test_what_keys_state(stated, bohr):
    assert stated_in_bohr(stated, unheard) is bohr


@pytest.mark.parametrize("first", ["bohr", "angstrom"])
def test_contradictions_in_either_order(first):
    second = "angstrom" if first == "bohr" else "bohr"
    with pytest.raises(InputError, match=f"got unit={first} and r_unit={second}; leave one"):
        stated_in_bohr({"unit": first, "r_unit": second}, unheard)


def test_a_unit_of_something_else_is_said_with_the_one_that_is_used():
    said = []
    assert stated_in_bohr({"units": "eV", "r_unit": "bohr"}, said.append) is True
    assert said == ["units=eV is not used: the coordinates are read in bohr"]
