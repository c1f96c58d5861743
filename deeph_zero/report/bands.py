"""Band structures, and densities of states beside them, as figures."""

import numpy as np
from matplotlib.figure import Figure

from deeph_zero.report.figures import BLUE, INK, ORANGE, style
from deeph_zero.units import HARTREE_IN_EV

_BELOW, _ABOVE = 15.0, 10.0
"""What is shown around the Fermi level, eV."""


def bands_figure(
    distances: np.ndarray,
    energies: np.ndarray,
    ticks: tuple[np.ndarray, tuple[str, ...]],
    fermi: float | None,
    dos: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Bands about the Fermi level, eV.

    Args:
        distances: Along the path, [nk].
        energies: [nspin, nk, n], Eh.
        ticks: Distances and names of the special points.
        fermi: Eh; None: energies as they are.
        dos: Energies and states, [n] and [nspin, n], per Eh.

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
        for spin, color in zip(energies, (BLUE, ORANGE), strict=False):
            for some in np.split(np.arange(len(distances)), jumps):
                axes.plot(
                    distances[some], (spin[some] - zero) * HARTREE_IN_EV, color=color, linewidth=1.0
                )
        axes.set_xticks(*_labels(*ticks))
        axes.set_xlim(distances[0], distances[-1])
        axes.set_ylabel("energy / eV" if fermi is None else "energy - Fermi level / eV")
        if fermi is not None:
            axes.axhline(0.0, color=INK, linewidth=0.6, linestyle="--")
            axes.set_ylim(-_BELOW, _ABOVE)
        if dos is not None:
            grid, states = dos
            for spin, color in zip(states, (BLUE, ORANGE), strict=False):
                parts[1].plot(spin / HARTREE_IN_EV, (grid - zero) * HARTREE_IN_EV, color=color)
            parts[1].set_xlabel("states / eV")
            parts[1].set_xlim(left=0.0)
    return figure


def _labels(places: np.ndarray, names: tuple[str, ...]) -> tuple[list[float], list[str]]:
    """One tick for two points at a jump; Γ as people write it."""
    found: dict[float, str] = {}
    for x, name in zip(places.tolist(), names, strict=True):
        text = "Γ" if name == "G" else name
        found[x] = f"{found[x]}|{text}" if x in found else text
    return list(found), list(found.values())
