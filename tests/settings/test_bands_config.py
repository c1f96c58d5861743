"""Settings of bands: what is taken, and what names its option."""

import pytest

from deeph_zero.errors import InputError
from deeph_zero.settings.bands_config import BandsConfig


def test_text_of_the_command_line_becomes_values():
    config = BandsConfig.parse(
        {"path": " GMKG ", "points": "7", "dos": True, "crystal": {"kmesh": ("2", "2", "1")}}
    )
    assert (config.path, config.points, config.dos) == ("GMKG", 7, True)
    assert config.crystal.kmesh == (2, 2, 1)
    assert (config.charge, config.spin) == (None, None), "those of the model"
    assert BandsConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"points": 1}, "--points: expected a whole number from 2 to 100000, got 1"),
        ({"width": 0}, "--width: expected a number above 0 and at most 1, got 0"),
        ({"dos_spacing": -1}, "--dos-spacing: expected a number above 0 and at most 10, got -1"),
        ({"path": ""}, "--path: expected a name, got ''; name one, or leave it out"),
        ({"charge": 101}, "--charge: expected a whole number from -100 to 100, got 101"),
        ({"spin": -1}, "--spin: expected a whole number from 0 to 100, got -1"),
        ({"crystal": {"smearing": 2}}, "--smearing: expected a number from 0 to 1, got 2"),
    ],
)
def test_wrong_values_name_the_option(values, words):
    with pytest.raises(InputError, match=f"^{words}"):
        BandsConfig.parse(values)
