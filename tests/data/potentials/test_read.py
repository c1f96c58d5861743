"""Arrays of potentials, and which reader a file goes to."""

import numpy as np
import pytest

from deeph_zero.data.potentials.read import read_potential
from deeph_zero.errors import InputError

from .fields import SHAPE, wave


def test_arrays(radial_files):
    path = radial_files.folder / "v.npy"
    np.save(path, np.asfortranarray(wave(SHAPE)))
    found = read_potential(path, unit="eV")
    assert found.lattice is None
    assert np.abs(found.values[0] - wave(SHAPE) / 27.21138602).max() < 1e-12
    np.save(path, np.stack([wave(SHAPE)] * 2))
    assert read_potential(path).values.shape == (2, *SHAPE)


def test_bad_arrays(radial_files):
    path = radial_files.folder / "v.npy"
    for array, message in (
        (np.zeros((2, 3)), "expected real numbers of shape"),
        (np.zeros((3, 4, 4, 4)), "expected real numbers of shape"),
        (np.zeros((0, 4, 4)), "expected real numbers of shape"),
        (np.zeros((4, 4, 4), dtype=complex), "expected real numbers of shape"),
        (np.full((4, 4, 4), np.inf), "expected finite values"),
        (np.array([{"a": 1}], dtype=object), "expected an array of numbers"),
    ):
        np.save(path, array, allow_pickle=True)
        with pytest.raises(InputError, match=message):
            read_potential(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="expected an array of numbers"):
        read_potential(path)
    with pytest.raises(InputError, match="this is a folder"):
        read_potential(radial_files.folder)
    with pytest.raises(InputError, match="cannot be read"):
        read_potential(radial_files.folder / "none")
