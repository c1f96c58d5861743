"""Band structures, and densities of states beside them, as figures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deeph_zero.report.figures import BLUE, INK, ORANGE, style
from deeph_zero.units import HARTREE_IN_EV

_BELOW, _ABOVE = 15.0, 10.0
"""What is shown around the Fermi level, eV."""
_ROOM = 2.0
"""Beyond a band that is shown because no other one would be on its side of the gap, eV."""
_SPINS = (("spin up", BLUE, "-"), ("spin down", ORANGE, (0, (4, 2))))
"""Dashes let spins of the same levels be seen both."""


def bands_figure(
    distances: np.ndarray,
    energies: np.ndarray,
    ticks: tuple[np.ndarray, tuple[str, ...]],
    fermi: float | None,
    dos: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    fermi_of_spins: Sequence[float] | None = None,
) -> Figure:
    """Bands about the Fermi level, eV.

    Args:
        distances: Along the path, [nk].
        energies: [nspin, nk, n], Eh.
        ticks: Distances and names of the special points.
        fermi: Eh; None: energies as they are.
        dos: Energies and states, [n] and [nspin, n], per Eh.
        fermi_of_spins: Eh; where a fixed moment fills each spin to a level of its own.

    Returns:
        The figure.
    """
    zero = 0.0 if fermi is None else fermi
    with style():
        figure = Figure(figsize=(5.6 if dos else 4.2, 3.6), layout="constrained")
        parts = figure.subplots(
            1, 2 if dos else 1, sharey=True, squeeze=False, width_ratios=[3, 1] if dos else None
        )[0]
        axes = parts[0]
        jumps = np.flatnonzero(np.diff(distances) < 1e-9) + 1
        handles = []
        for spin, (_, color, dashes) in zip(energies, _SPINS, strict=False):
            look: dict[str, Any] = {"color": color, "linestyle": dashes, "linewidth": 1.0}
            lines = [
                axes.plot(distances[some], (spin[some] - zero) * HARTREE_IN_EV, **look)
                for some in np.split(np.arange(len(distances)), jumps)
            ]
            handles.append(lines[0][0])
        if len(handles) > 1:
            names = [name for name, _, _ in _SPINS]
            figure.legend(handles, names, loc="outside upper left", ncols=2)
        axes.set_xticks(*_labels(*ticks))
        axes.set_xlim(distances[0], distances[-1])
        name = "Fermi level" if fermi_of_spins is None else "mean Fermi level"
        axes.set_ylabel("energy / eV" if fermi is None else f"energy - {name} / eV")
        if fermi is not None:
            _mark(axes, fermi, fermi_of_spins)
            axes.set_ylim(*_window((energies - fermi) * HARTREE_IN_EV))
        if dos is not None:
            grid, states = dos
            for spin, (_, color, dashes) in zip(states, _SPINS, strict=False):
                parts[1].plot(
                    spin / HARTREE_IN_EV,
                    (grid - zero) * HARTREE_IN_EV,
                    color=color,
                    linestyle=dashes,
                )
            parts[1].set_xlabel("states / eV")
            parts[1].set_xlim(left=0.0)
    return figure


def _mark(axes: Axes, fermi: float, of_spins: Sequence[float] | None) -> None:
    """A line at the Fermi level, or one of each spin in its colour."""
    each = [(fermi, INK)]
    if of_spins is not None:
        each = [(level, color) for level, (_, color, _) in zip(of_spins, _SPINS, strict=True)]
    for level, color in each:
        at = (level - fermi) * HARTREE_IN_EV
        axes.axhline(at, color=color, linewidth=0.6, linestyle="--")


def _window(energies: np.ndarray) -> tuple[float, float]:
    """What is shown of levels about the Fermi level (eV): both edges of a gap, however wide."""
    finite = energies[np.isfinite(energies)]
    below, above = finite[finite <= 0.0], finite[finite > 0.0]
    low = below.max() - _ROOM if len(below) else 0.0
    high = above.min() + _ROOM if len(above) else 0.0
    return min(-_BELOW, float(low)), max(_ABOVE, float(high))


def _labels(places: np.ndarray, names: tuple[str, ...]) -> tuple[list[float], list[str]]:
    """One tick for two points at a jump; Γ as people write it."""
    found: dict[float, str] = {}
    for x, name in zip(places.tolist(), names, strict=True):
        text = "Γ" if name == "G" else name
        found[x] = f"{found[x]}|{text}" if x in found else text
    return list(found), list(found.values())
