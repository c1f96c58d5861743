"""BerkeleyGW's VSC: read right, or refused in one line."""

import struct

import numpy as np
import pytest

from deeph_zero.data.potentials.read import read_potential
from deeph_zero.errors import InputError

from .fields import COORDS, LATTICE, NUMBERS, SHAPE, same_place, wave


def record(content: bytes) -> bytes:
    mark = struct.pack("<i", len(content))
    return mark + content + mark


def vsc_bytes(values, *, kind="VSC-Complex", change=None):
    """A file as pw2bgw.x writes it; ``values`` in rydberg, [nspin, n1, n2, n3]."""
    shape = values.shape[1:]
    spectrum = np.fft.fftn(values, axes=(1, 2, 3), norm="forward")
    waves = np.argwhere(np.abs(spectrum).max(0) > 1e-13)
    coefficients = np.array([[s[tuple(w)] for s in spectrum] for w in waves])
    waves = np.where(2 * waves > np.array(shape), waves - np.array(shape), waves)
    scale = 2.5
    sizes = [len(values), len(waves), 1, 0, len(NUMBERS)]
    parts = {
        "title": kind.ljust(32).encode() + b" " * 64,
        "sizes": struct.pack("<5id", *sizes, 240.0),
        "grid": struct.pack("<3i", *shape),
        "cell": np.array([1.0, scale, *(LATTICE / scale).ravel(), *np.zeros(9)]).tobytes(),
        "reciprocal": np.zeros(20).tobytes(),
        "rotations": np.eye(3, dtype="<i4").tobytes(),
        "translations": np.zeros(3).tobytes(),
        "atoms": b"".join(
            struct.pack("<3di", *(x / scale), z) for x, z in zip(COORDS, NUMBERS, strict=True)
        ),
        "pieces": struct.pack("<i", 2),
    }
    half = len(waves) // 2
    for k, rows in enumerate((slice(0, half), slice(half, None))):
        parts[f"size {k}"] = struct.pack("<i", len(waves[rows]))
        parts[f"waves {k}"] = waves[rows].astype("<i4").tobytes()
    parts["pieces of V"] = struct.pack("<i", 1)
    parts["size of V"] = struct.pack("<i", len(waves))
    parts["V"] = np.ascontiguousarray(coefficients.T).astype("<c16").tobytes()
    parts |= change or {}
    return b"".join(record(p) for p in parts.values())


@pytest.mark.parametrize("nspin", [1, 2])
def test_vsc(radial_files, nspin):
    values = np.stack([wave(SHAPE), wave(SHAPE, (0.1, 0.3, 0.2))])[:nspin]
    path = radial_files.folder / "VSC"
    path.write_bytes(vsc_bytes(values))
    found = read_potential(path)
    same_place(found)
    # rydberg become hartree
    assert np.abs(found.values - 0.5 * values).max() < 1e-12


BAD_VSC = {
    "another file": ({"kind": "RHO-Complex"}, "expected BerkeleyGW's VSC, got 'RHO-Complex'"),
    "sizes": ({"change": {"sizes": struct.pack("<5id", 3, 9, 1, 0, 2, 1.0)}}, "spins .1 or 2."),
    "atoms": ({"change": {"atoms": b"\0" * 28}}, "expected 2 atoms"),
    "number": ({"change": {"atoms": struct.pack("<3di", 0, 0, 0, 0) * 2}}, "atomic numbers from 1"),
    "cell": ({"change": {"cell": np.zeros(20).tobytes()}}, "expected a cell"),
    "pieces": ({"change": {"size 0": struct.pack("<i", 10**6)}}, "rows of Miller indices"),
    "fewer": ({"change": {"pieces of V": struct.pack("<i", 0)}}, "rows of V.G., got 0"),
}


@pytest.mark.parametrize("name", BAD_VSC)
def test_bad_vsc(radial_files, name):
    words, message = BAD_VSC[name]
    path = radial_files.folder / "VSC"
    path.write_bytes(vsc_bytes(wave(SHAPE)[None], **words))
    with pytest.raises(InputError, match=message):
        read_potential(path)


def test_vsc_that_is_cut_off_or_not_real(radial_files):
    path = radial_files.folder / "VSC"
    whole = vsc_bytes(wave(SHAPE)[None])
    for end in (50, 150, 300, 700, len(whole) - 3):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"the file ends at byte|cut off or damaged"):
            read_potential(path)
    path.write_bytes(vsc_bytes(wave(SHAPE)[None] + 0.3j * wave(SHAPE, (0.2, 0.1, 0))[None]))
    with pytest.raises(InputError, match="expected a real potential"):
        read_potential(path)
