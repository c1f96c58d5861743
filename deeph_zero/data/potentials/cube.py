"""Gaussian cube files of potentials: a text with atoms, the edges of a voxel, and the values.

Two values for each point (as the last number of the third line says) are those of the two spins.
Lengths are bohr; a negative number of points means ångström, as Gaussian's manual has it.

References:
    Gaussian 16 manual, utility ``cubegen``, section "Cube Files".
"""

from pathlib import Path

import numpy as np

from deeph_zero.data.formats.conventions import ENERGIES
from deeph_zero.data.formats.folders import numbers_of
from deeph_zero.data.potentials.grid import GridPotential
from deeph_zero.data.reading.content import content_of, text_of
from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM

_MOST = 10**9
"""Points or atoms that no text of this kind has."""


def read_cube(path: Path, unit: float | None) -> GridPotential:
    """Read a file, packed or not.

    Args:
        path: An ordinary file.
        unit: Its unit in hartree; None: hartree.

    Returns:
        The potential, its grid moved so that the first point is the origin of the cell.

    Raises:
        InputError: At the first line that is not as expected.
    """
    lines = text_of(content_of(path)).split("\n")
    if len(lines) < 7:
        raise InputError(f"expected a cube of at least 7 lines, got {len(lines)}; check the file")
    natm, origin, nval = _head(lines[2])
    edges = [_edge(lines[3 + k], 4 + k) for k in range(3)]
    length = 1.0 if edges[0][0] > 0 else 1.0 / BOHR_IN_ANGSTROM
    shape = [abs(n) for n, _ in edges]
    step = np.array([vector for _, vector in edges]) * length
    if abs(np.linalg.det(step)) < 1e-12:
        raise InputError(
            f"lines 4 to 6: expected the edges of a voxel, got {step.tolist()}; correct them"
        )
    if np.prod([float(n) for n in shape]) * nval > _MOST or natm + 6 > len(lines):
        raise InputError(
            f"expected {natm} atoms and {shape} points, the file is too short; copy it again"
        )
    numbers, coords = _atoms(lines, natm, length)
    values = _values(lines[6 + natm :], (*shape, nval), 7 + natm)
    lattice = step * np.array(shape)[:, None]
    values = _moved(np.moveaxis(values, -1, 0), origin * length @ np.linalg.inv(step))
    return GridPotential(
        values=values * (ENERGIES["hartree"] if unit is None else unit),
        lattice=lattice,
        numbers=numbers,
        coords=coords,
        kind="cube",
    )


def _head(line: str) -> tuple[int, np.ndarray, int]:
    words = line.split()
    natm, *origin = numbers_of(line, 4, "line 3")
    nval = numbers_of(line, 5, "line 3")[4] if len(words) > 4 else 1.0
    if natm < 0:
        raise InputError(
            "line 3: expected a cube of one potential, a negative number of atoms says that it "
            "holds orbitals; write the potential"
        )
    if natm != int(natm) or natm > _MOST or nval not in (1.0, 2.0):
        raise InputError(
            f"line 3: expected the number of atoms, an origin and 1 or 2 values for each point, "
            f"got {line.strip()[:60]!r}; correct it"
        )
    return int(natm), np.array(origin), int(nval)


def _edge(line: str, number: int) -> tuple[int, np.ndarray]:
    count, *vector = numbers_of(line, 4, f"line {number}")
    if count != int(count) or not 0 < abs(count) < _MOST:
        raise InputError(f"line {number}: expected a number of points, got {count:g}; correct it")
    return int(count), np.array(vector)


def _atoms(lines: list[str], natm: int, length: float) -> tuple[np.ndarray, np.ndarray]:
    rows = np.array([numbers_of(lines[6 + k], 5, f"line {7 + k}") for k in range(natm)])
    rows = rows.reshape(natm, 5)
    return np.rint(rows[:, 0]).astype(np.int64), rows[:, 2:] * length


def _values(lines: list[str], shape: tuple[int, ...], first: int) -> np.ndarray:
    words = " ".join(lines).split()
    wanted = int(np.prod(shape))
    if len(words) != wanted:
        raise InputError(
            f"expected {wanted} values from line {first} on, got {len(words)}; copy the file again"
        )
    try:
        found = np.array(words, dtype=float)
    except ValueError:
        found = _slowly(lines, first)
    if not np.isfinite(found).all():
        raise InputError(
            f"expected finite values from line {first} on, got NaN or infinity; write it again"
        )
    return found.reshape(shape)


def _slowly(lines: list[str], first: int) -> np.ndarray:
    """Line by line, for the line number of the word that is none; D for E is understood."""
    found: list[float] = []
    for number, line in enumerate(lines, first):
        found += numbers_of(line, len(line.split()), f"line {number}")
    return np.array(found)


def _moved(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The field of a grid that begins ``points`` steps from the origin, on one that begins there.

    By whole points it is rolled, else moved by its Fourier series; an unpaired wave stays real.
    """
    for axis, shift in enumerate(points):
        n = values.shape[1 + axis]
        whole = round(float(shift))
        if abs(shift - whole) < 1e-4:
            values = np.roll(values, whole % n, 1 + axis)
            continue
        phase = np.exp(-2j * np.pi * np.fft.fftfreq(n) * shift)
        if n % 2 == 0:
            phase[n // 2] = phase[n // 2].real
        shape = [1, 1, 1, 1]
        shape[1 + axis] = n
        spectrum = np.fft.fft(values, axis=1 + axis) * phase.reshape(shape)
        values = np.fft.ifft(spectrum, axis=1 + axis).real
    return values
