"""Numerical atomic orbitals of SIESTA's ``.ion`` files, bohr.

Behind a preamble come the symbol, the atomic number and the valence, then every orbital as a
headline (l, n, zeta, …), a line of sizes and a table of r and R(r)/r^l.

References:
    J. M. Soler et al., J. Phys.: Condens. Matter 14, 2745 (2002), section 3, and SIESTA's source
    formats.
"""

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from deeph_zero.data.formats.folders import numbers_of
from deeph_zero.data.reading.content import content_of, naming, text_of
from deeph_zero.data.stored_values import HEAVIEST
from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.radial import RadialFunction, simpson

_HIGHEST = 6
_MOST = 10**5
"""Orbitals or points that no file of this kind has."""
_NORM = 0.02
"""Largest |∫ R² r² dr - 1|."""
_CURE = "take a .ion file of SIESTA, version 4 or later"


@dataclasses.dataclass(frozen=True, eq=False)
class AtomicOrbitals:
    """The orbitals of an element.

    Attributes:
        number: Atomic number.
        valence: Electrons beside the core.
        orbitals: In the order of the file, normalised.
    """

    number: int
    valence: float
    orbitals: tuple[RadialFunction, ...]


def read_ion(path: Path) -> AtomicOrbitals:
    """Read a file.

    Args:
        path: An ordinary file, packed or not.

    Returns:
        The orbitals.

    Raises:
        InputError: If it is no such file; the line begins with the file.
    """
    with naming(path):
        return _parse(text_of(content_of(path)).split("\n"))


def _parse(lines: list[str]) -> AtomicOrbitals:
    ends = [k for k, line in enumerate(lines) if line.strip() == "</preamble>"]
    start = ends[0] + 1 if ends else 0
    head = list(itertools.islice((k for k in range(start, len(lines)) if lines[k].strip()), 8))
    if len(head) < 8:
        raise InputError(f"expected orbitals of SIESTA, the file has no head; {_CURE}")
    (number,) = numbers_of(lines[head[2]], 1, f"line {head[2] + 1}")
    (valence,) = numbers_of(lines[head[3]], 1, f"line {head[3] + 1}")
    _, count = numbers_of(lines[head[6]], 2, f"line {head[6] + 1}")
    whole = number == int(number) and count == int(count)
    if not (1 <= number <= HEAVIEST and whole and 0 < count < _MOST):
        raise InputError(
            f"line {head[2] + 1}: expected an atomic number, and a number of orbitals in line "
            f"{head[6] + 1}, got {number:g} and {count:g}; {_CURE}"
        )
    at = next((k + 1 for k in range(head[6], len(lines)) if lines[k].startswith("# PAOs")), None)
    if at is None:
        raise InputError(f"expected a line '# PAOs:' in front of the orbitals, got none; {_CURE}")
    orbitals = []
    for _ in range(int(count)):
        orbital, at = _orbital(lines, at)
        orbitals.append(orbital)
    return AtomicOrbitals(int(number), valence, tuple(orbitals))


def _orbital(lines: list[str], at: int) -> tuple[RadialFunction, int]:
    if at + 2 >= len(lines):
        raise InputError(f"line {at + 1}: expected an orbital, the file ends; copy it again")
    (l,) = numbers_of(lines[at], 1, f"line {at + 1}")
    points, delta, cutoff = numbers_of(lines[at + 1], 3, f"line {at + 2}")
    counted = points == int(points) and 3 <= points < _MOST
    if l not in range(_HIGHEST + 1) or not counted or not 0 < delta < cutoff < 100:
        raise InputError(
            f"line {at + 1}: expected an angular momentum up to {_HIGHEST} and points, got {l:g} "
            f"and {points:g}; {_CURE}"
        )
    first, end = at + 2, at + 2 + int(points)
    if end > len(lines):
        raise InputError(
            f"line {first + 1}: expected {points:g} points, the file ends; copy it again"
        )
    table = np.array([numbers_of(lines[k], 2, f"line {k + 1}") for k in range(first, end)])
    r, values = table.T
    if np.abs(r - np.arange(len(r)) * delta).max() > 1e-6 * cutoff:
        raise InputError(f"line {first + 1}: expected points {delta:g} bohr apart; copy it again")
    found = RadialFunction(int(l), r, values * r ** (l + 1), simpson(np.full(len(r), delta)))
    norm = found.norm()
    if abs(norm - 1) > _NORM:
        raise InputError(
            f"line {at + 1}: expected a normalised orbital, its norm is {norm:.3f}; copy the file "
            "again"
        )
    return dataclasses.replace(found, values=found.values / np.sqrt(norm)), end
