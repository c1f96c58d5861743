"""The ladder of orbital energies around the gap, alpha and beta side by side."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from deeph_zero.report.data import Matrices
from deeph_zero.report.figures import BLUE, FAINT, INK, ORANGE, new_axes, style
from deeph_zero.report.numbers import plural
from deeph_zero.units import HARTREE_IN_EV

BELOW, ABOVE = 1.5, 0.6
"""Window around HOMO and LUMO, Eh: valence levels, no cores, few diffuse ones."""
SAME = 2e-3
"""Levels closer than this (Eh) are drawn side by side instead of on top of each other."""


def ladder(matrices: Matrices, title: str) -> Figure:
    """Orbital energies as steps, HOMO and LUMO named.

    Args:
        matrices: Levels and occupations of one molecule.
        title: Above the plot; text that needs no escaping.

    Returns:
        The figure.
    """
    channels = [np.asarray(e) for e in np.atleast_2d(matrices.mo_energy)]
    counts = matrices.occupied()
    low, high = _window(channels, counts)
    with style():
        figure, axes = new_axes(height=4.2)
        for k, (levels, nocc) in enumerate(zip(channels, counts, strict=True)):
            _channel(axes, levels, nocc, k, (low, high))
        axes.set_xlim(-0.5, len(channels) - 0.1)
        axes.set_ylim(low, high)
        names = ["α", "β"] if matrices.unrestricted else ["doubly occupied or empty"]
        axes.set_xticks([k - 0.24 for k in range(len(channels))], names)
        axes.tick_params(axis="x", length=0)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("orbital energy / Eh")
        right = axes.secondary_yaxis("right", functions=(_to_ev, _from_ev))
        right.set_ylabel("eV")
        hidden = sum(int((levels < low).sum()) for levels in channels)
        below = f" ({plural(hidden, 'deeper level')} not shown)" if hidden else ""
        axes.set_title(title + below)
        return figure


def _to_ev(energy: ArrayLike) -> ArrayLike:
    return np.asarray(energy) * HARTREE_IN_EV


def _from_ev(energy: ArrayLike) -> ArrayLike:
    return np.asarray(energy) / HARTREE_IN_EV


def _window(channels: Sequence[np.ndarray], counts: Sequence[int]) -> tuple[float, float]:
    """Energies to show: the levels next to the gap and what is near them."""
    pairs = list(zip(channels, counts, strict=True))
    homos = [float(e[n - 1]) for e, n in pairs if n > 0]
    lumos = [float(e[n]) for e, n in pairs if n < len(e)]
    top = max(lumos or homos) + ABOVE
    bottom = min(homos or lumos) - BELOW
    inside = np.concatenate([e[(e > bottom) & (e < top)] for e in channels])
    margin = 0.06 * (top - bottom)
    return float(inside.min()) - margin, min(top, float(inside.max()) + margin)


def _channel(
    axes: Axes, levels: np.ndarray, nocc: int, place: int, window: tuple[float, float]
) -> None:
    left, width = place - 0.42, 0.36
    for group in _groups(levels, window):
        share = width / len(group)
        for slot, p in enumerate(group):
            filled = p < nocc
            start = left + slot * share
            gap = 0.12 * share if len(group) > 1 else 0.0
            axes.hlines(
                levels[p], start, start + share - gap, color=BLUE if filled else ORANGE,
                linewidth=2.4 if filled else 1.4, linestyle="-" if filled else (0, (4, 1)),
            )  # fmt: skip
    if nocc > 0:
        _name(axes, float(levels[nocc - 1]), "HOMO", (left + width, -1.0))
    if nocc < len(levels):
        _name(axes, float(levels[nocc]), "LUMO", (left + width, 1.0))
    if 0 < nocc < len(levels):
        middle = left + 0.5 * width
        ends = (middle, float(levels[nocc - 1])), (middle, float(levels[nocc]))
        arrow = {"arrowstyle": "<->", "color": FAINT, "shrinkA": 3, "shrinkB": 3}
        axes.annotate("", xy=ends[1], xytext=ends[0], arrowprops=arrow)


def _name(axes: Axes, energy: float, text: str, at: tuple[float, float]) -> None:
    x, side = at
    axes.annotate(
        f"{text} {energy:.3f}", xy=(x, energy), xytext=(4, 4 * side), textcoords="offset points",
        va="center", ha="left", fontsize=8.5, color=INK,
    )  # fmt: skip


def _groups(levels: np.ndarray, window: tuple[float, float]) -> list[list[int]]:
    """Positions of the levels inside the window, those at one energy together."""
    inside = [p for p in range(len(levels)) if window[0] < levels[p] < window[1]]
    groups: list[list[int]] = []
    for p in inside:
        if groups and levels[p] - levels[groups[-1][-1]] < SAME:
            groups[-1].append(p)
        else:
            groups.append([p])
    return groups
