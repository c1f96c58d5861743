"""Proof of an AO order from the numbers: overlaps of two atoms do not change as the bond turns.

A block of S between two atoms is unchanged by any rotation about the line through them. That holds
for every basis, Gaussian or numerical, and only if the functions have the order and the signs they
are taken to have (up to a common sign of all odd shells, which is a matter of the radial parts).
"""

import math

import numpy as np
import torch

from deeph_zero.ao.convention import SHELL_ORDERS
from deeph_zero.ao.rotation import shell_rotation
from deeph_zero.data.formats.protocol import Record, Source, read_record
from deeph_zero.errors import InputError

_LOOKED_AT = 16
"""Blocks that are turned, of those in the home cell and of those beyond it."""
_ANGLE = 1.1
"""Radians; no symmetry of any block."""
_NOISE = 2e-3
"""Size of a block, relative to the largest, down to which its own size is the measure."""
_NEGLIGIBLE = 1e-8
"""Overlaps too small to tell anything."""
TURNS = 0.05
"""Relative change up to which blocks count as turning with their bonds: integrals on a program's
grid change by up to 0.02, those of another order by 0.3 and more."""


def order_deviation(record: Record) -> float | None:
    """How much overlap blocks change as they turn about their bonds.

    Args:
        record: A structure and its matrices, functions in what is taken for PySCF's order.

    Returns:
        The largest change of an element, relative to the largest element of its block; None where
        no block has anything to turn.
    """
    overlap, structure = record.matrices.overlap, record.structure
    if overlap is None or not len(overlap):
        return None
    lattice = structure.lattice if structure.lattice is not None else np.zeros((3, 3))
    first, second = overlap.pairs.numpy().T
    bonds = structure.coords[second] - structure.coords[first] + overlap.cells.numpy() @ lattice
    lengths = np.linalg.norm(bonds, axis=1)
    away = np.abs(overlap.cells.numpy()).max(axis=1) > 0
    near = [k for k in np.argsort(lengths, kind="stable") if lengths[k] > 0.1]
    changes, sizes = [], []
    for some in ([k for k in near if not away[k]], [k for k in near if away[k]]):
        for k in some[:: max(1, len(some) // (4 * _LOOKED_AT))][:_LOOKED_AT]:
            i, j = overlap.pairs[k].tolist()
            left, right = (record.matrices.shells[a] for a in (i, j))
            if max(*left, *right, 0) > 0:
                about = _rotation(bonds[k] / lengths[k])
                block = overlap.block(int(k)).double()
                turned = shell_rotation(left, about) @ block @ shell_rotation(right, about).mT
                changes.append(float((turned - block).abs().max()))
                sizes.append(float(block.abs().max()))
    floor = _NOISE * max(sizes, default=0.0)
    if floor <= _NEGLIGIBLE:
        return None
    return max(change / max(size, floor) for change, size in zip(changes, sizes, strict=True))


def settled_order(source: Source, index: int) -> tuple[str, float | None]:
    """The order in which a source's overlaps turn with their bonds.

    Args:
        source: The file.
        index: The structure that is looked at.

    Returns:
        The source's own order where it fits or nothing can be told, else the one that does; and
        how far its overlaps are from turning, see :func:`order_deviation`.

    Raises:
        InputError: If the structure cannot be read, or no known order fits.
    """
    tried = {}
    for order in (source.order, *(o for o in SHELL_ORDERS if o != source.order)):
        deviation = order_deviation(read_record(source, index, order=order))
        if deviation is None or deviation < TURNS:
            return order, deviation
        tried[order] = deviation
    best = min(tried, key=tried.__getitem__)
    raise InputError(
        "expected overlaps that turn with their bonds, got a change of "
        f"{tried[source.order]:.2f} of them in the order {source.order!r} and {tried[best]:.2f} in "
        f"{best!r}, the best of {', '.join(tried)}; the functions are in no known order, or the "
        "positions of other matrices"
    )


def _rotation(axis: np.ndarray) -> torch.Tensor:
    """Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    found = np.eye(3) + math.sin(_ANGLE) * cross + (1 - math.cos(_ANGLE)) * cross @ cross
    return torch.from_numpy(found)
