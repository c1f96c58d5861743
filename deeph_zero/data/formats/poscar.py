"""POSCAR files: the structure beside a DeepH folder's matrices."""

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from jaxtyping import Float, Int

from deeph_zero.data.formats.folders import numbers_of
from deeph_zero.errors import InputError

_MOST_ATOMS = 10**6


def parse_poscar(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a POSCAR of VASP 5: with element symbols, Direct or Cartesian.

    Args:
        text: Its content.

    Returns:
        Atomic numbers, coordinates and lattice vectors (rows), ångström.

    Raises:
        InputError: At the first line that is not as expected.
    """
    lines = text.split("\n")
    if len(lines) < 8:
        raise InputError(f"POSCAR: expected at least 8 lines, got {len(lines)}; check the file")
    lattice = np.array([numbers_of(lines[k], 3, f"POSCAR line {k + 1}") for k in (2, 3, 4)])
    (scale,) = numbers_of(lines[1], 1, "POSCAR line 2")
    volume = abs(float(np.linalg.det(lattice)))
    if scale == 0 or volume < 1e-6:
        raise InputError("POSCAR: expected a scale and a cell that are not 0; check lines 2 to 5")
    if scale < 0:  # the volume of the cell
        scale = (-scale / volume) ** (1 / 3)
    symbols, counts = _composition(lines[5], lines[6])
    start = 8 if lines[7].strip()[:1].lower() == "s" else 7  # "Selective dynamics"
    numbers = np.repeat([atomic_numbers[s] for s in symbols], counts)
    kind = lines[start].strip()[:1].lower() if len(lines) > start else ""
    if kind not in ("d", "c", "k"):
        raise InputError(f"POSCAR line {start + 1}: expected Direct or Cartesian; correct it")
    if len(lines) < start + 1 + len(numbers):
        raise InputError(
            f"POSCAR: expected positions of {len(numbers)} atoms, got {len(lines) - start - 1} "
            "lines; check the counts"
        )
    rows = [
        numbers_of(lines[start + 1 + k], 3, f"POSCAR line {start + 2 + k}")
        for k in range(len(numbers))
    ]
    coords = np.array(rows) @ (lattice if kind == "d" else np.eye(3)) * scale
    return numbers.astype(np.int64), coords, lattice * scale


def _composition(first: str, second: str) -> tuple[list[str], list[int]]:
    symbols = [word.split("_")[0].split("/")[0].capitalize() for word in first.split()]
    words = second.split()
    if not symbols or any(s not in atomic_numbers or s == "X" for s in symbols):
        raise InputError(
            f"POSCAR line 6: expected element symbols, got {first.strip()[:40]!r}; write the file "
            "as VASP 5 does"
        )
    fits = len(words) == len(symbols) and all(w.isdecimal() and len(w) < 8 for w in words)
    counts = [int(word) for word in words] if fits else []
    if not fits or not 0 < sum(counts) <= _MOST_ATOMS:
        raise InputError(
            f"POSCAR line 7: expected the number of atoms of {len(symbols)} elements, got "
            f"{second.strip()[:40]!r}; correct it"
        )
    return symbols, counts


def write_poscar(
    numbers: Int[np.ndarray, " natm"],
    coords: Float[np.ndarray, "natm 3"],
    lattice: Float[np.ndarray, "3 3"],
) -> str:
    """A POSCAR, Cartesian, to the last digit.

    Args:
        numbers: Atomic numbers, atoms of an element side by side.
        coords: Ångström.
        lattice: Rows, ångström.

    Returns:
        Its text.
    """
    change = np.flatnonzero(np.diff(numbers)) + 1
    groups = np.split(numbers, change)
    lines = ["made by deeph-zero", "1.0"]
    lines += [_row(vector) for vector in lattice]
    lines.append(" ".join(chemical_symbols[int(group[0])] for group in groups))
    lines.append(" ".join(str(len(group)) for group in groups))
    lines += ["Cartesian", *(_row(xyz) for xyz in coords), ""]
    return "\n".join(lines)


def _row(values: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{float(x):.17g}" for x in values)
