"""Lines between the special points of a Brillouin zone, named as ASE names them."""

import dataclasses
import itertools
import logging

import ase.cell
import numpy as np
from ase.dft.kpoints import BandPath, parse_path_string
from jaxtyping import Float

from deeph_zero.errors import InputError, argument
from deeph_zero.types import Brief

_log = logging.getLogger("deeph_zero")

FEWEST = 2
MOST = 100_000
_SAME = 1e-9


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class KPath(Brief):
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
        points: k-points, at least one on every special point; ASE's own path takes more where that
            needs more, and says so.

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
    if len(found.kpts) > points and path is not None:
        raise InputError(
            f"{argument('points')}: expected at least {len(found.kpts)} k-points for the path "
            f"{wanted}, got {points}; give more"
        )
    if len(found.kpts) > points:
        _log.warning(
            "%s k-points are too few for the path %s: %s are taken",
            points, wanted, len(found.kpts),
        )  # fmt: skip
    labels, at, jumps = _special_points(found)
    steps = np.linalg.norm(np.diff(found.kpts @ cell.reciprocal() * 2 * np.pi, axis=0), axis=1)
    steps[jumps] = 0.0
    distances = np.concatenate([[0.0], np.cumsum(steps)])
    return KPath(
        kpts=np.asarray(found.kpts),
        distances=distances,
        labels=labels,
        ticks=distances[at],
        path=found.path,
    )


def _walked(
    cell: ase.cell.Cell, path: str, points: int, pbc: tuple[bool, bool, bool], known: list[str]
) -> BandPath:
    try:
        found = cell.bandpath(path, npoints=points, pbc=pbc)
    except Exception:  # ASE raises whatever its classification meets
        raise _wrong(path, known) from None
    for names in parse_path_string(path):
        if len(names) < 2 or any(a == b for a, b in itertools.pairwise(names)):
            raise InputError(
                f"{argument('path')}: expected lines between two special points or more, got "
                f"{''.join(names)!r} in {path[:40]!r}; a comma is a jump between lines, as in "
                "GX,MG"
            )
    return found


def _special_points(found: BandPath) -> tuple[tuple[str, ...], list[int], list[int]]:
    """Names of the path's special points, where they are, and after which k-points it jumps.

    ASE's own axis takes a line without a k-point between its ends for a jump.
    """
    labels, at, jumps = [], [], []
    for names in parse_path_string(found.path):
        jumps += at[-1:]
        for name in names:
            offset = np.abs(found.kpts - found.special_points[name]).max(1)
            offset[: at[-1] + 1 if at else 0] = np.inf
            at.append(int((offset < _SAME).argmax()))
            labels.append(name)
    return tuple(labels), at, jumps


def _wrong(path: str, known: list[str]) -> InputError:
    return InputError(
        f"{argument('path')}: expected special points out of {', '.join(sorted(known))}, got "
        f"{path[:40]!r}; write for example {''.join(sorted(known)[:3])}"
    )
