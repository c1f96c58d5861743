"""Potentials in cubes: read right, or refused in one line."""

import numpy as np
import pytest

from deeph_zero.data.potentials.read import read_potential
from deeph_zero.errors import InputError

from .fields import LATTICE, SHAPE, cube_text, same_place, wave


@pytest.mark.parametrize("angstrom", [False, True])
def test_cube(radial_files, angstrom):
    path = radial_files.write("v.cube", cube_text(wave(SHAPE), angstrom=angstrom))
    found = read_potential(path)
    same_place(found)
    assert np.abs(found.values[0] - wave(SHAPE)).max() < 1e-9
    half = read_potential(path, unit="rydberg")
    assert np.abs(2 * half.values - found.values).max() < 1e-12


@pytest.mark.parametrize("steps", [(2, -1, 3), (0.3, 1.75, -0.5)])
def test_cube_whose_grid_begins_elsewhere(radial_files, steps):
    origin = np.array(steps) / SHAPE @ LATTICE
    values = wave(SHAPE, np.array(steps) / SHAPE)
    found = read_potential(radial_files.write("v.cube", cube_text(values, origin=origin)))
    same_place(found)
    # the origin and the voxel have ten decimals
    assert np.abs(found.values[0] - wave(SHAPE)).max() < 1e-6


def test_cube_of_two_spins_and_two_cubes(radial_files):
    up, down = wave(SHAPE), wave(SHAPE, (0.2, 0, 0))
    both = radial_files.write("both.cube", cube_text(np.stack([up, down], -1), nval=2))
    one = radial_files.write("up.cube", cube_text(up))
    other = radial_files.write("down.cube", cube_text(down))
    for found in (read_potential(both), read_potential(one, down=other)):
        same_place(found)
        assert np.abs(found.values - np.stack([up, down])).max() < 1e-9


BAD_CUBES = {
    "cut": (lambda t: t[:-60], r"expected 240 values from line 9 on, got 2\d\d"),
    "word": (lambda t: t.replace("E+00", "E+zz", 1), r"line \d+: expected \d numbers, got"),
    "nan": (lambda t: t[:-18] + " NaN\n", "expected finite values from line 9"),
    "orbitals": (lambda t: t.replace("\n2 0.0", "\n-2 0.0", 1), "line 3: .* holds orbitals"),
    "flat": (
        lambda t: t.replace(
            "\n5 -0.2000000000 1.2000000000 0.06", "\n5 0.8333333333 0.0333333333 0.0", 1
        ),
        "lines 4 to 6: expected the edges of a voxel",
    ),
    "points": (
        lambda t: t.replace("\n6 0.8", "\n6.5 0.8", 1),
        "line 4: expected a number of points",
    ),
    "many": (lambda t: t.replace("\n6 0.8", "\n60000000 0.8", 1), "the file is too short"),
    "short": (lambda t: t[:20], "expected a cube of at least 7 lines"),
}


@pytest.mark.parametrize("name", BAD_CUBES)
def test_bad_cubes(radial_files, name):
    spoil, message = BAD_CUBES[name]
    path = radial_files.write("v.cube", spoil(cube_text(wave(SHAPE), digits=9)))
    with pytest.raises(InputError, match=message) as caught:
        read_potential(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
