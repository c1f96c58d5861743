"""Potentials in cubes, BerkeleyGW's VSC and arrays: read right, or refused in one line."""

import struct

import numpy as np
import pytest

from deeph_zero.data.potentials.grid import GridPotential, check_belongs
from deeph_zero.data.potentials.read import read_potential
from deeph_zero.errors import InputError

LATTICE = np.array([[5.0, 0.2, 0.0], [-1.0, 6.0, 0.3], [0.4, 0.0, 7.0]])
COORDS = np.array([[0.3, 0.2, 0.1], [2.5, 2.6, 3.0]])
NUMBERS = [6, 1]
SHAPE = (6, 5, 8)


def wave(shape, shift=(0.0, 0.0, 0.0)):
    """A real field without symmetry, of waves that every grid here has room for."""
    x, y, z = (np.arange(n) / n + s for n, s in zip(shape, shift, strict=True))
    a, b, c = np.meshgrid(x, y, z, indexing="ij")
    first = np.cos(2 * np.pi * (a - 2 * b + c)) - 0.4 * np.sin(2 * np.pi * (2 * a + 3 * c))
    return first + 0.25 * np.cos(2 * np.pi * (b - c)) - 1.5


def cube_text(values, *, origin=(0, 0, 0), angstrom=False, nval=1, digits=10):
    values = values if nval == 2 else values[..., None]
    shape = values.shape[:3]
    unit = 0.52917721092 if angstrom else 1.0
    head = f"{len(NUMBERS)} " + " ".join(f"{x * unit:.10f}" for x in origin)
    lines = ["title", "potential", head + (f" {nval}" if nval > 1 else "")]
    for n, vector in zip(shape, LATTICE, strict=True):
        count = -n if angstrom else n
        lines.append(f"{count} " + " ".join(f"{x * unit / n:.10f}" for x in vector))
    for z, place in zip(NUMBERS, COORDS, strict=True):
        lines.append(f"{z} {z}.0 " + " ".join(f"{x * unit:.10f}" for x in place))
    flat = values.reshape(-1)
    lines += [" ".join(f"{v:.{digits}E}" for v in flat[k : k + 6]) for k in range(0, len(flat), 6)]
    return "\n".join([*lines, ""])


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


def same_place(found: GridPotential):
    assert np.abs(found.lattice - LATTICE).max() < 1e-8
    assert np.abs(found.coords - COORDS).max() < 1e-8
    assert found.numbers.tolist() == NUMBERS


@pytest.mark.parametrize("angstrom", [False, True])
def test_cube(files, angstrom):
    path = files.write("v.cube", cube_text(wave(SHAPE), angstrom=angstrom))
    found = read_potential(path)
    same_place(found)
    assert np.abs(found.values[0] - wave(SHAPE)).max() < 1e-9
    half = read_potential(path, unit="rydberg")
    assert np.abs(2 * half.values - found.values).max() < 1e-12


@pytest.mark.parametrize("steps", [(2, -1, 3), (0.3, 1.75, -0.5)])
def test_cube_whose_grid_begins_elsewhere(files, steps):
    origin = np.array(steps) / SHAPE @ LATTICE
    values = wave(SHAPE, np.array(steps) / SHAPE)
    found = read_potential(files.write("v.cube", cube_text(values, origin=origin)))
    same_place(found)
    # the origin and the voxel have ten decimals
    assert np.abs(found.values[0] - wave(SHAPE)).max() < 1e-6


def test_cube_of_two_spins_and_two_cubes(files):
    up, down = wave(SHAPE), wave(SHAPE, (0.2, 0, 0))
    both = files.write("both.cube", cube_text(np.stack([up, down], -1), nval=2))
    one = files.write("up.cube", cube_text(up))
    other = files.write("down.cube", cube_text(down))
    for found in (read_potential(both), read_potential(one, down=other)):
        same_place(found)
        assert np.abs(found.values - np.stack([up, down])).max() < 1e-9


@pytest.mark.parametrize("nspin", [1, 2])
def test_vsc(files, nspin):
    values = np.stack([wave(SHAPE), wave(SHAPE, (0.1, 0.3, 0.2))])[:nspin]
    path = files.folder / "VSC"
    path.write_bytes(vsc_bytes(values))
    found = read_potential(path)
    same_place(found)
    # rydberg become hartree
    assert np.abs(found.values - 0.5 * values).max() < 1e-12


def test_arrays(files):
    path = files.folder / "v.npy"
    np.save(path, np.asfortranarray(wave(SHAPE)))
    found = read_potential(path, unit="eV")
    assert found.lattice is None
    assert np.abs(found.values[0] - wave(SHAPE) / 27.21138602).max() < 1e-12
    np.save(path, np.stack([wave(SHAPE)] * 2))
    assert read_potential(path).values.shape == (2, *SHAPE)


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
def test_bad_cubes(files, name):
    spoil, message = BAD_CUBES[name]
    path = files.write("v.cube", spoil(cube_text(wave(SHAPE), digits=9)))
    with pytest.raises(InputError, match=message) as caught:
        read_potential(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


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
def test_bad_vsc(files, name):
    words, message = BAD_VSC[name]
    path = files.folder / "VSC"
    path.write_bytes(vsc_bytes(wave(SHAPE)[None], **words))
    with pytest.raises(InputError, match=message):
        read_potential(path)


def test_vsc_that_is_cut_off_or_not_real(files):
    path = files.folder / "VSC"
    whole = vsc_bytes(wave(SHAPE)[None])
    for end in (50, 150, 300, 700, len(whole) - 3):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"the file ends at byte|cut off or damaged"):
            read_potential(path)
    path.write_bytes(vsc_bytes(wave(SHAPE)[None] + 0.3j * wave(SHAPE, (0.2, 0.1, 0))[None]))
    with pytest.raises(InputError, match="expected a real potential"):
        read_potential(path)


def test_bad_arrays(files):
    path = files.folder / "v.npy"
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
        read_potential(files.folder)
    with pytest.raises(InputError, match="cannot be read"):
        read_potential(files.folder / "none")


def belongs(lattice=LATTICE, coords=COORDS, numbers=NUMBERS, stated=NUMBERS):
    potential = GridPotential(
        values=wave(SHAPE)[None], lattice=LATTICE, numbers=np.array(stated), coords=COORDS
    )
    valences = np.array([{6: 4}.get(z, z) for z in numbers])
    check_belongs(potential, np.array(numbers), coords, lattice, valences)


def test_structure_of_the_potential_is_taken_in_any_order():
    belongs()
    belongs(coords=COORDS[::-1] + np.array([1, -2, 0]) @ LATTICE, numbers=[1, 6])
    belongs(stated=[4, 1])  # the valence, as PySCF writes it


def test_other_structures_are_refused():
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    for words, message in (
        ({"lattice": LATTICE @ turn}, "the same cell in another orientation"),
        ({"lattice": LATTICE * 1.01}, r"\(2.646 0.106 0.000; .* angstrom, .* another cell"),
        ({"coords": COORDS + 0.02}, r"atom 1 \(C\) at .* from the nearest one"),
        ({"coords": COORDS[:1], "numbers": [6]}, "expected the 2 atoms"),
        ({"numbers": [7, 1]}, r"atom 1 \(N\) is of number 6 there"),
        ({"coords": COORDS[[0, 0]]}, "atom 1 .* from the nearest one"),
    ):
        with pytest.raises(InputError, match=message):
            belongs(**words)


def test_steep_potentials_are_told():
    smooth = GridPotential(values=wave((12, 12, 12))[None])
    assert smooth.outermost() < 1e-12
    steep = GridPotential(values=np.random.default_rng(0).normal(size=(1, 12, 12, 12)))
    assert steep.outermost() > 0.2
