"""Fock matrix and residual as heat maps, with lines and names at the atoms' blocks."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from deeph_zero.ks.given import by_spin
from deeph_zero.report.data import Matrices
from deeph_zero.report.figures import WIDTH, log_ticks, new_axes, style

MAX_PIXELS = 400
"""Larger matrices are drawn coarser: each pixel is the largest element it covers."""
MAX_NAMES = 24
"""Atoms from which only some blocks get a name."""
DECADES = 6.0
"""Decades of the colour scale below the largest element."""


def heat_maps(matrices: Matrices, offsets: Sequence[int] | None) -> dict[str, tuple[str, Figure]]:
    """Absolute values of F and of H - F[P], per spin.

    Args:
        matrices: The matrices of one molecule.
        offsets: First AO of each atom and the number of AOs; None leaves the blocks out.

    Returns:
        Caption and figure by name.
    """
    rebuilt = matrices.fock_rebuilt
    todo = [("fock", "Fock matrix |F|", matrices.hamiltonian)]
    if rebuilt is not None:
        todo.append(("residual", "Residual |H − F[P]|", matrices.fock - rebuilt))
    maps = {}
    for name, title, matrix in todo:
        planes = by_spin(matrix, 2)
        spins = [("", "")] if len(planes) == 1 else [("_alpha", ", α"), ("_beta", ", β")]
        for (suffix, spin), plane in zip(spins, planes, strict=True):
            figure = _heat_map(np.abs(plane), title + spin, matrices.symbols, offsets)
            maps[name + suffix] = title + spin, figure
    return maps


def _heat_map(
    matrix: Float[np.ndarray, "nao nao"],
    title: str,
    symbols: Sequence[str],
    offsets: Sequence[int] | None,
) -> Figure:
    nao = len(matrix)
    small = coarse(matrix)
    largest = float(small.max())
    if not np.isfinite(largest) or largest <= 0.0:
        small, largest = np.full_like(small, 1e-16), 1e-16  # a matrix of zeros
    with style():
        figure, axes = new_axes(WIDTH, 3.7)
        image = axes.imshow(
            small, cmap="cividis", extent=(0, nao, nao, 0), interpolation="none",
            norm=LogNorm(vmin=largest / 10.0**DECADES, vmax=largest, clip=True),
        )  # fmt: skip
        axes.grid(visible=False)
        axes.set_title(title)
        bar = figure.colorbar(image, ax=axes, shrink=0.9, label="Eh")
        log_ticks(bar.ax.yaxis, *bar.ax.get_ylim())
        if offsets is None:
            axes.set_xlabel("atomic orbital")
        else:
            _name_blocks(axes, symbols, offsets)
        return figure


def _name_blocks(axes: Axes, symbols: Sequence[str], offsets: Sequence[int]) -> None:
    inner = offsets[1:-1]
    line = {"color": "white", "linewidth": 0.7, "alpha": 0.7}
    if len(symbols) <= 4 * MAX_NAMES:
        axes.hlines(inner, 0, offsets[-1], **line)
        axes.vlines(inner, 0, offsets[-1], **line)
    middles = [0.5 * (a + b) for a, b in pairwise(offsets)]
    names = [f"{s}{k}" for k, s in enumerate(symbols, start=1)]
    step = -(-len(names) // MAX_NAMES)
    turn = 90 if len(names) > 6 else 0
    axes.set_xticks(middles[::step], names[::step], rotation=turn, fontsize=8)
    axes.set_yticks(middles[::step], names[::step], fontsize=8)
    axes.tick_params(length=0)


def coarse(matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "m m"]:
    """A matrix of at most MAX_PIXELS rows: the largest element of each patch.

    Args:
        matrix: Absolute values.

    Returns:
        The matrix itself if it is small.
    """
    n = len(matrix)
    if n <= MAX_PIXELS:
        return matrix
    starts = np.linspace(0, n, MAX_PIXELS, endpoint=False).astype(int)
    return np.maximum.reduceat(np.maximum.reduceat(matrix, starts, axis=0), starts, axis=1)
