"""Paths through special points of a lattice, for bands."""

import dataclasses

import numpy as np
from ase.cell import Cell
from jaxtyping import Float

from deeph_zero.errors import InputError, argument


@dataclasses.dataclass(frozen=True, kw_only=True)
class BandPath:
    """k-points along lines.

    Attributes:
        kpts: Fractions of the reciprocal lattice vectors.
        distances: Along the path, 1/bohr.
        labels: Name of every special point, with its distance.
    """

    kpts: Float[np.ndarray, "nk 3"]
    distances: Float[np.ndarray, " nk"]
    labels: tuple[tuple[str, float], ...]


def band_path(
    lattice: Float[np.ndarray, "3 3"],
    path: str | None,
    points: int,
    pbc: tuple[bool, bool, bool] = (True, True, True),
) -> BandPath:
    """A path through special points.

    Args:
        lattice: Vectors in rows, bohr.
        path: Letters, as ASE has them for the lattice; a comma begins another line. None: ASE's.
        points: k-points in all, about.
        pbc: Periodic directions; bands of a layer stay in its plane.

    Returns:
        The path.

    Raises:
        InputError: If the lattice has no such points.
    """
    cell = Cell(lattice)
    option = argument("path")
    special = cell.bandpath(npoints=0, pbc=pbc).special_points
    if path is not None:
        wanted = path.strip()
        unknown = [name for name in _names(wanted) if name not in special]
        if unknown or len(_names(wanted)) < 2:
            raise InputError(
                f"{option}: expected two or more of {', '.join(special)} as this lattice has them, "
                f"got {wanted[:40]!r}; correct it"
            )
    found = cell.bandpath(path and path.strip(), npoints=points, pbc=pbc)
    x, places, names = found.get_linear_kpoint_axis()
    return BandPath(
        kpts=np.asarray(found.kpts, dtype=float),
        distances=np.asarray(x, dtype=float),
        labels=tuple((str(n), float(p)) for n, p in zip(names, places, strict=True)),
    )


def _names(path: str) -> list[str]:
    """Special points of a path: a letter and the digits behind it."""
    names: list[str] = []
    for letter in path.replace(",", ""):
        if letter.isdigit() and names:
            names[-1] += letter
        else:
            names.append(letter)
    return names
