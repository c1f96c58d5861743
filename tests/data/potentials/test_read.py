"""Arrays of potentials, and which reader a file goes to."""

import numpy as np
import pytest

from deeph_zero.data.potentials.read import read_potential
from deeph_zero.errors import InputError

from .fields import SHAPE, cube_text, wave


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


def test_units(tmp_path):
    path = tmp_path / "v.npy"
    values = wave(SHAPE)
    np.save(path, values)
    for unit, factor in ((None, 1.0), ("hartree", 1.0), ("rydberg", 0.5), ("eV", 1 / 27.21138602)):
        found = read_potential(path, unit=unit)
        np.testing.assert_allclose(found.values[0], factor * values, rtol=1e-9)
        assert (found.kind, found.numbers, found.coords) == ("npy", None, None)
    np.save(path, np.arange(24).reshape(2, 3, 4))  # whole numbers are numbers
    np.testing.assert_array_equal(read_potential(path).values[0], np.arange(24).reshape(2, 3, 4))


def test_a_damaged_header_is_refused(tmp_path):
    path = tmp_path / "v.npy"
    np.save(path, wave(SHAPE))
    for old, new in ((b"}", b" "), (b"(", b"["), (b"<f8", b"<z8"), (b"True", b"Truf")):
        path.write_bytes(path.read_bytes().replace(old, new))
        with pytest.raises(InputError, match="expected an array of numbers, cannot read it"):
            read_potential(path)


def test_two_files_of_two_spins(tmp_path):
    up, down = tmp_path / "up.npy", tmp_path / "down.npy"
    np.save(up, wave(SHAPE))
    np.save(down, -wave(SHAPE))
    found = read_potential(up, down=down)
    np.testing.assert_array_equal(found.values, np.stack([wave(SHAPE), -wave(SHAPE)]))
    np.save(down, wave((4, 4, 4)))
    with pytest.raises(InputError, match=r"down\.npy: expected the grid of .*, \(6, 5, 8\), got"):
        read_potential(up, down=down)
    np.save(down, np.stack([wave(SHAPE)] * 2))
    with pytest.raises(InputError, match="expected the potential of one spin beside down"):
        read_potential(up, down=down)


def test_two_files_of_two_cells(radial_files):
    up = radial_files.write("up.cube", cube_text(wave(SHAPE)))
    down = radial_files.folder / "down.npy"
    np.save(down, wave(SHAPE))
    with pytest.raises(InputError, match=r"expected the cell of .*, got another one"):
        read_potential(up, down=down)
