"""Settings of crystals: meshes and repeats as users write them, and what excludes what."""

import pytest

from deeph_zero.errors import InputError
from deeph_zero.method import CrystalMethod
from deeph_zero.settings.crystal_config import (
    CrystalConfig,
    SmearedCrystalConfig,
    TrainingCrystalConfig,
)


def test_the_pseudopotential_is_the_methods():
    assert CrystalConfig().pseudo == CrystalMethod().pseudo
    assert CrystalConfig().kmesh is None
    assert SmearedCrystalConfig().smearing == 0.0


@pytest.mark.parametrize("value", ["3 2 1", [3, 2, 1], ("3", "2", "1"), "3,2,1"])
def test_meshes_are_three_numbers(value):
    config = TrainingCrystalConfig.parse({"kmesh": value, "supercell": value})
    assert config.kmesh == (3, 2, 1)
    assert config.supercell == (3, 2, 1)
    assert TrainingCrystalConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kmesh": "2 2"}, "--kmesh: expected three positive whole numbers of k-points, at most"),
        ({"kmesh": [2, 2, 1001]}, "k-points, at most 1000, got '2 2 1001'; give for example 6 6 1"),
        ({"kmesh": [0, 2, 2]}, "got '0 2 2'"),
        ({"kmesh": 3}, "got '3'"),
        ({"supercell": "65 1 1"}, "--supercell: .* cells, at most 64, got '65 1 1'; .* 2 2 1"),
        ({"kspacing": 0}, "--kspacing: expected a number above 0 and at most 10, got 0"),
        ({"ke_cutoff": 4}, "--ke-cutoff: expected a number from 5 to 10000"),
        ({"dimension": 1}, "--dimension: expected a whole number from 2 to 3, got 1"),
        ({"smearing": -0.1}, "--smearing: expected a number from 0 to 1, got -0.1"),
        ({"strain": 0.3}, "--strain: expected a number from 0 to 0.2, got 0.3"),
        ({"pseudo": " "}, "--pseudo: expected a name"),
        (
            {"kmesh": "2 2 1", "kspacing": 0.3},
            "exclude each other; got --kmesh 2 2 1 and --kspacing 0.3; give one",
        ),
    ],
)
def test_wrong_values_name_the_option(values, words):
    with pytest.raises(InputError, match=words):
        TrainingCrystalConfig.parse(values)
