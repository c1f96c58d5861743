"""Order of grid points in which blocks are compact, so that few AOs reach each of them."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from pyscf.dft import gen_grid

SMALL_BOHR = 15.0
"""Molecules up to this length keep the given order: their AOs reach nearly every block."""

WORTHWHILE = 0.9
"""Another order is taken when it lowers the cost at least by this factor."""

_BOX_BOHR = 1.2
_MARGIN_BOHR = 3.0

Points = Float[np.ndarray, "ngrids 3"]
Order = Int[np.ndarray, " ngrids"]


def compact_order(
    centres: Float[np.ndarray, "natm 3"],
    coords: Points,
    bounds: Sequence[int],
    cost: Callable[[Points], float],
) -> Order | None:
    """The best of three orders: as given, box by box along the molecule, by bisection.

    PySCF sorts its boxes by x first, which suits molecules along x. Boxes along the longest axis
    suit any elongated molecule, bisection clusters.

    Args:
        centres: Atoms, bohr.
        coords: Grid points, bohr.
        bounds: Block k holds the points ``bounds[k]`` to ``bounds[k + 1]``.
        cost: Cost of the blocks of these points in a given order.

    Returns:
        Positions of the points in the new order, or None when the given one may stay.
    """
    if len(bounds) < 3 or np.ptp(centres, axis=0).max() <= SMALL_BOHR:
        return None
    best, lowest = None, WORTHWHILE * cost(coords)
    for order in (boxes_along(centres, coords), bisection(coords, bounds)):
        value = cost(coords[order])
        if value < lowest:
            best, lowest = order, value
    return best


def box_order(centres: Float[np.ndarray, "natm 3"], coords: Points) -> Order:
    """PySCF's order of a grid: boxes by x, y, z, points of a box as they come.

    The same as ``pyscf.dft.gen_grid.arg_group_grids``, in a fifth of its time: one integer per
    box is sorted instead of rows of three.

    Args:
        centres: Atoms, bohr.
        coords: Grid points, bohr; those far outside the molecule share its outermost boxes.

    Returns:
        Positions of the points in the new order.
    """
    low = centres.min(0) - gen_grid.GROUP_BOUNDARY_PENALTY
    high = centres.max(0) + gen_grid.GROUP_BOUNDARY_PENALTY
    count = ((high - low) * (1.0 / gen_grid.GROUP_BOX_SIZE)).round().astype(int)
    return _by_box(coords, low, high, count, [0, 1, 2])


def boxes_along(centres: Float[np.ndarray, "natm 3"], coords: Points) -> Order:
    """Points box by box, boxes along the molecule's longest axis first.

    Args:
        centres: Atoms, bohr.
        coords: Grid points, bohr; those far outside the molecule share its outermost boxes.

    Returns:
        Positions of the points in the new order.
    """
    low, high = centres.min(0) - _MARGIN_BOHR, centres.max(0) + _MARGIN_BOHR
    count = np.maximum(np.round((high - low) / _BOX_BOHR), 1.0).astype(int)
    longest_first = np.argsort(-np.ptp(centres, axis=0), kind="stable").tolist()
    return _by_box(coords, low, high, count, longest_first)


def _by_box(
    coords: Points,
    low: Float[np.ndarray, "3"],
    high: Float[np.ndarray, "3"],
    count: Int[np.ndarray, "3"],
    axes: list[int],
) -> Order:
    """Points box by box, along the first axis first; those outside are in a layer around."""
    index = np.floor((coords - low) * (1.0 / ((high - low) / count))).astype(int)
    np.clip(index, -1, count, out=index)
    key = np.ravel_multi_index(tuple((index + 1).T[axes]), tuple((count + 2)[axes]))
    # NumPy sorts short integers by radix
    small = np.prod(count + 2) <= np.iinfo(np.uint16).max
    return np.argsort(key.astype(np.uint16) if small else key, kind="stable")


def bisection(coords: Points, bounds: Sequence[int]) -> Order:
    """Points halved again and again along the longest side of what is left, block by block.

    Args:
        coords: Grid points, bohr.
        bounds: Where blocks begin and end.

    Returns:
        Positions of the points in the new order.
    """
    order = np.arange(len(coords))
    pending = [(0, len(bounds) - 1)]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        middle = (first + last) // 2
        start, cut, stop = bounds[first], bounds[middle], bounds[last]
        part = order[start:stop]
        axis = np.ptp(coords[part], axis=0).argmax()
        order[start:stop] = part[np.argpartition(coords[part, axis], cut - start)]
        pending += [(first, middle), (middle, last)]
    return order
