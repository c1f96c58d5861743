"""Put molecules beside each other: at contact, opposite charges next to each other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

_DIRECTIONS = 60
_TURNS = 12
_COMPACT = 0.01
"""Weight of distance (Å) beside the charges' interaction (e²/Å): neutral ones stay together."""


class Body(NamedTuple):
    """A rigid molecule.

    Attributes:
        positions: Positions of its atoms, angstrom, [natm, 3].
        radii: Two atoms of different bodies are at contact at the sum of these, angstrom, [natm].
        charges: Charges of its atoms, [natm].
    """

    positions: Float[np.ndarray, "natm 3"]
    radii: Float[np.ndarray, " natm"]
    charges: Float[np.ndarray, " natm"]


def packed(bodies: Sequence[Body]) -> list[Float[np.ndarray, "natm 3"]]:
    """Places of molecules around the first of them.

    Each in its turn touches those already there: of a set of directions and orientations, always
    the same, the place is taken where charges attract most, and of equal ones the nearest.

    Args:
        bodies: The molecules, largest first.

    Returns:
        The positions of each, angstrom.
    """
    placed = [bodies[0].positions - bodies[0].positions.mean(axis=0)]
    for k, body in enumerate(bodies[1:], start=1):
        there = Body(
            np.concatenate(placed),
            np.concatenate([b.radii for b in bodies[:k]]),
            np.concatenate([b.charges for b in bodies[:k]]),
        )
        placed.append(_docked(there, body))
    return placed


def _docked(there: Body, body: Body) -> Float[np.ndarray, "natm 3"]:
    own = body.positions - body.positions.mean(axis=0)
    turns = [np.eye(3), *Rotation.random(_TURNS - 1, rng=0).as_matrix()]
    best, lowest = own, np.inf
    for turn in turns if len(own) > 1 else turns[:1]:
        turned = own @ turn.T
        for direction in _sphere(_DIRECTIONS):
            moved = turned + _distance(there, body, turned, direction) * direction
            gaps = np.linalg.norm(there.positions[:, None] - moved[None], axis=-1)
            charge = float((there.charges[:, None] * body.charges[None] / gaps).sum())
            spread = float(np.linalg.norm(moved.mean(axis=0) - there.positions.mean(axis=0)))
            score = charge + _COMPACT * spread
            if score < lowest - 1e-9:  # rounding must not choose between equals
                best, lowest = moved, score
    return best


def _distance(there: Body, body: Body, turned: np.ndarray, direction: np.ndarray) -> float:
    """How far along a direction the body has to go until nothing overlaps."""
    apart = turned[None] - there.positions[:, None]
    along = apart @ direction
    contact = (there.radii[:, None] + body.radii[None]) ** 2
    room = along**2 - (apart**2).sum(axis=-1) + contact
    ways = np.where(room > 0, -along + np.sqrt(np.maximum(room, 0)), 0)
    return max(0.0, float(ways.max()))


def _sphere(count: int) -> Float[np.ndarray, "count 3"]:
    """Directions spread evenly (Fibonacci's spiral)."""
    index = np.arange(count) + 0.5
    z, turn = 1 - 2 * index / count, np.pi * (1 + 5**0.5) * index
    rest = np.sqrt(1 - z**2)
    return np.stack([rest * np.cos(turn), rest * np.sin(turn), z], axis=1)
