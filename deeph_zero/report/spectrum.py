"""Infrared spectrum of a structure whose response was computed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deeph_zero.report.figures import BLUE, ORANGE, new_axes, style
from deeph_zero.report.numbers import FAINT, numbers

WIDTH = 20.0
"""Full width at half maximum of a line, cm⁻¹."""


def spectrum(entry: Mapping[str, Any]) -> Figure | None:
    """Lines and their sum, Lorentzian ones.

    Args:
        entry: A structure's, as in the summary.

    Returns:
        The figure; None where the entry has no real frequency.
    """
    pairs = zip(
        numbers(entry.get("frequencies")), numbers(entry.get("ir_intensities")), strict=False
    )
    lines = [(at, height) for at, height in pairs if at is not None and height is not None]
    real = np.array([line for line in lines if line[0] > 0])
    if not len(real):
        return None
    at, height = real.T
    height = np.where(height < FAINT, 0.0, height)
    grid = np.linspace(0.0, 1.1 * at.max() + 10 * WIDTH, 2000)
    half = WIDTH / 2
    profile = half / np.pi / ((grid[:, None] - at) ** 2 + half**2)
    with style():
        figure, axes = new_axes()
        axes.plot(grid, profile @ height, color=BLUE)
        axes.vlines(at, 0.0, height / (np.pi * half), color=ORANGE, linewidth=1.0)
        axes.set_xlim(grid[-1], 0.0)  # as spectra are printed
        axes.set_ylim(bottom=0.0)
        if not height.any():
            axes.text(0.5, 0.5, "no line absorbs", transform=axes.transAxes, ha="center")
        axes.set_xlabel("wavenumber / cm⁻¹")
        axes.set_ylabel("intensity / km mol⁻¹ cm")
        axes.set_title("Infrared spectrum (harmonic)")
    return figure
