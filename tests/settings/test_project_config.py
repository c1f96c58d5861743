"""Settings of projections: meshes as users write them, a path of letters."""

import pytest

from deeph_zero.errors import InputError
from deeph_zero.settings.project_config import ProjectConfig


@pytest.mark.parametrize("value", ["6 6 1", "6,6,1", ["6", "6", "1"], [6, 6, 1]])
def test_meshes_with_blanks_or_commas(value):
    config = ProjectConfig.parse({"kmesh": value, "block_mesh": value})
    assert config.kmesh == config.block_mesh == (6, 6, 1)


@pytest.mark.parametrize("path", ["GMKG", " GXW,LG ", "GX1"])
def test_paths_are_letters(path):
    assert ProjectConfig.parse({"path": path}).path == path


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kmesh": "100 1 1"}, "--kmesh: expected three whole numbers from 1 to 99 such as 6 6 1"),
        ({"block_mesh": "1 1"}, "--block-mesh: expected three whole numbers from 1 to 99"),
        ({"path": "G-X"}, "--path: expected letters of special points such as GMKG or GXL, got"),
        ({"path": ""}, "--path: expected letters of special points"),
        ({"unit": "Ry"}, "--unit: expected one of hartree, eV, rydberg, got 'Ry'"),
        ({"ke_cutoff": -1}, "--ke-cutoff: expected a number above 0 and at most 5000"),
        ({"spin": 1.5}, "--spin: expected a whole number from 0 to 100, got 1.5"),
        ({"smearing": 2}, "--smearing: expected a number from 0 to 1, got 2"),
        ({"points": 1}, "--points: expected a whole number from 2 to 10000, got 1"),
    ],
)
def test_wrong_values_name_the_option(values, words):
    with pytest.raises(InputError, match=words):
        ProjectConfig.parse(values)
