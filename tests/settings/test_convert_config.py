"""Settings of foreign databases: QH9's by default, formats one by one."""

import typing

import pytest

from deeph_zero.data.formats.registry import FORMATS
from deeph_zero.errors import InputError
from deeph_zero.settings.convert_config import READ, WRITTEN, ConvertConfig, FormatName


def test_the_defaults_are_qh9s():
    method = ConvertConfig().solved
    assert (method.basis, method.xc, method.grid_level) == ("def2-svp", "b3lyp5", 3)
    assert not method.density_fit
    assert ConvertConfig(basis="sto-3g").solved.basis == "sto-3g"


def test_every_format_that_is_known_can_be_named():
    names = typing.get_args(FormatName)
    assert set(names) == {*READ, *WRITTEN} == {*FORMATS}
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mesh": "48 48"}, "--mesh: expected three whole numbers from 2 to 2000 such as 48 48 48"),
        ({"mesh": [1, 8, 8]}, r"--mesh: expected three whole numbers .*, got \[1, 8, 8\]"),
        ({"mesh": "8 8 2001"}, "--mesh: expected three whole numbers"),
        ({"source_format": "qh8"}, "--from: expected one of labels, .*; did you mean qh9?"),
        ({"target_format": "x"}, "--to: expected one of labels"),
        ({"energy_unit": "ev"}, "--energy-unit: expected one of hartree, eV, rydberg.*ev"),
        ({"agreement": 0}, "--agreement: expected a number above 0 and at most 1, got 0"),
        ({"first": 0}, "--first: expected a whole number from 1 up, got 0"),
        ({"workers": 0}, "--workers: expected a whole number from 1 to 256, got 0"),
    ],
)
def test_wrong_values_name_the_option(values, words):
    with pytest.raises(InputError, match=words):
        ConvertConfig.parse(values)


@pytest.mark.parametrize("value", ["48 40 36", [48, 40, 36], ("48", "40", "36")])
def test_a_mesh_is_three_numbers(value):
    assert ConvertConfig.parse({"mesh": value}).mesh == (48, 40, 36)
