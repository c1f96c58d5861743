"""Lines between the special points of a Brillouin zone, named as ASE names them."""

import dataclasses

import ase.cell
import numpy as np
from jaxtyping import Float

from deeph_zero.errors import InputError, argument

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
        points: k-points, at least one on every special point.

    Returns:
        The path.

    Raises:
        InputError: If the path names a point that the zone does not have, or there are fewer
            k-points than special points.
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
    known = plain.special_points
    wanted = plain.path if path is None else path.strip()
    wanted = wanted.replace("\u0393", "G").replace("Gamma", "G")
    try:
        found = cell.bandpath(wanted, npoints=points, pbc=pbc)
    except Exception:  # the same
        raise _wrong(wanted, list(known)) from None
    if not len(found.kpts):
        raise _wrong(wanted, list(known))
    distances, ticks, labels = found.get_linear_kpoint_axis()
    if len(found.kpts) > points:
        raise InputError(
            f"{argument('points')}: expected at least {len(found.kpts)} k-points for the path "
            f"{wanted}, got {points}; give more"
        )
    return KPath(
        kpts=np.asarray(found.kpts),
        distances=np.asarray(distances),
        labels=tuple(labels),
        ticks=np.asarray(ticks),
        path=found.path,
    )


def _wrong(path: str, known: list[str]) -> InputError:
    return InputError(
        f"{argument('path')}: expected special points out of {', '.join(sorted(known))}, got "
        f"{path[:40]!r}; write for example {''.join(sorted(known)[:3])}"
    )
