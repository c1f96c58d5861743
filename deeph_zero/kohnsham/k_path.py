"""Lines between the special points of a Brillouin zone, named as ASE names them."""

import dataclasses
import logging

import ase.cell
import numpy as np
from ase.dft.kpoints import BandPath
from jaxtyping import Float

from deeph_zero.errors import InputError, argument

_log = logging.getLogger("deeph_zero")

FEWEST = 2
MOST = 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class KPath:
    """k-points along lines.

    Attributes:
        kpts: Fractions of the reciprocal vectors, [nk, 3].
        distances: Length of the way so far, 1/bohr; it does not grow where the path jumps.
        labels: Names of the special points of the path.
        ticks: Their distances.
        path: For example "GXWKG,UX": a comma is a jump.
    """

    kpts: Float[np.ndarray, "nk 3"]
    distances: Float[np.ndarray, " nk"]
    labels: tuple[str, ...]
    ticks: Float[np.ndarray, " nlabels"]
    path: str


def k_path(
    lattice: Float[np.ndarray, "3 3"],
    pbc: tuple[bool, bool, bool],
    path: str | None = None,
    points: int = 60,
) -> KPath:
    """A path through the zone of a lattice.

    Args:
        lattice: Vectors in rows, bohr.
        pbc: Periodic directions.
        path: Names of special points one behind the other, a comma where the path jumps; None:
            ASE's path for the kind of lattice.
        points: k-points; ASE's own path takes more where a line would be left without one between
            its ends, and says so.

    Returns:
        The path.

    Raises:
        InputError: If the path names a point that the zone does not have, or there are too few
            k-points for a path that was given.
    """
    if not FEWEST <= points <= MOST:
        raise InputError(
            f"{argument('points')}: expected {FEWEST} to {MOST} k-points, got {points}; give for "
            "example 60"
        )
    cell = ase.cell.Cell(np.asarray(lattice, dtype=float))
    try:
        plain = cell.bandpath(npoints=0, pbc=pbc)
    except Exception:  # ASE raises whatever its classification meets
        raise InputError("expected a lattice whose kind ASE knows, got another one") from None
    known = list(plain.special_points)
    wanted = plain.path if path is None else path.strip()
    wanted = wanted.replace("\u0393", "G").replace("Gamma", "G")
    found = _walked(cell, wanted, points, pbc, known)
    enough = points
    while _unresolved(found):
        enough += max(1, enough // 20)
        found = _walked(cell, wanted, enough, pbc, known)
    if enough > points and path is not None:
        raise InputError(
            f"{argument('points')}: expected at least {enough} k-points for the path {wanted}, "
            f"one within every line, got {points}; give more"
        )
    if enough > points:
        _log.warning(
            "%s k-points are too few for the path %s: %s are taken", points, wanted, enough
        )
    distances, ticks, labels = found.get_linear_kpoint_axis()
    return KPath(
        kpts=np.asarray(found.kpts),
        distances=np.asarray(distances),
        labels=tuple(labels),
        ticks=np.asarray(ticks),
        path=found.path,
    )


def _walked(
    cell: ase.cell.Cell, path: str, points: int, pbc: tuple[bool, bool, bool], known: list[str]
) -> BandPath:
    try:
        found = cell.bandpath(path, npoints=points, pbc=pbc)
    except Exception:  # ASE raises whatever its classification meets
        raise _wrong(path, known) from None
    if not len(found.kpts):
        raise _wrong(path, known)
    return found


def _unresolved(found: BandPath) -> bool:
    """Whether a line has no k-point between its ends, which ASE takes for a jump."""
    distances, _, _ = found.get_linear_kpoint_axis()
    return int((np.diff(distances) == 0).sum()) > found.path.count(",")


def _wrong(path: str, known: list[str]) -> InputError:
    return InputError(
        f"{argument('path')}: expected special points out of {', '.join(sorted(known))}, got "
        f"{path[:40]!r}; write for example {''.join(sorted(known)[:3])}"
    )
