"""Plots against training steps, and of the estimated error over the structures."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from deeph_zero.report.data import Source
from deeph_zero.report.figures import BLUE, GREEN, ORANGE, log_ticks, new_axes, style
from deeph_zero.report.numbers import number

FEW = 3
"""Structures from which a plot over structures says more than the table."""

Line = tuple[str, str, str, str]
"""Column of metrics.csv, name in the legend, colour, dashes."""
_PLOTS: Mapping[str, tuple[str, str, Sequence[Line]]] = {
    "loss": ("Training loss", "loss / mEh", [("loss", "", BLUE, "-")]),
    "residual": (
        "Distance from self-consistency",
        "Eh, root mean square",
        [
            ("residual", "residual H − F", BLUE, "-"),
            ("gradient", "orbital gradient", ORANGE, "--"),
            ("teacher", "teacher's gradient", GREEN, ":"),
        ],
    ),
    "energy_error": (
        "Estimated energy error",
        "Eh above self-consistency",
        [("energy_error", "", BLUE, "-")],
    ),
    "fock_builds": ("Fock builds spent", "builds", [("fock_builds", "", BLUE, "-")]),
}
_LINEAR = ("fock_builds",)


def training_curves(source: Source) -> dict[str, tuple[str, Figure]]:
    """One plot per quantity that was recorded.

    Args:
        source: The run.

    Returns:
        Caption and figure by name; empty for a run without metrics.
    """
    steps = source.metrics.get("step")
    finals = _finals(source)
    if steps is None or not np.isfinite(steps).any():
        return {}
    plots = {}
    for name, (title, unit, lines) in _PLOTS.items():
        known = [line for line in lines if _finite(source.metrics.get(line[0]), name)]
        if known:
            log = name not in _LINEAR
            final = finals.get(name)
            plots[name] = title, _curve(source.metrics, (title, unit), known, log=log, final=final)
    return plots


def _finals(source: Source) -> dict[str, float]:
    """Means of the certificates, to be seen beside the curves of what they certify."""
    keys = {"residual": "orbital_gradient_rms", "energy_error": "energy_error_estimate"}
    found = {}
    for name, key in keys.items():
        values = [number(s.entry.get(key)) for s in source.structures]
        known = [v for v in values if v is not None]
        if known and sum(known) > 0:
            found[name] = sum(known) / len(known)
    return found


def _finite(values: np.ndarray | None, name: str) -> bool:
    """Something to draw; a logarithm needs a positive number."""
    if values is None:
        return False
    fine = np.isfinite(values)
    return bool((fine & (values > 0)).any() if name not in _LINEAR else fine.any())


def _curve(
    metrics: Mapping[str, np.ndarray],
    titles: tuple[str, str],
    lines: Sequence[Line],
    *,
    log: bool,
    final: float | None,
) -> Figure:
    with style():
        figure, axes = new_axes()
        for column, label, colour, dashes in lines:
            y = metrics[column]
            fine = np.isfinite(y) & np.isfinite(metrics["step"]) & ((y > 0) | (not log))
            marker = "o" if fine.sum() <= 30 else ""
            axes.plot(
                metrics["step"][fine], y[fine], dashes, color=colour, label=label or None,
                marker=marker, markersize=3,
            )  # fmt: skip
        if final is not None:
            axes.plot(
                metrics["step"][np.isfinite(metrics["step"])][-1:], [final], "*", color=ORANGE,
                markersize=9, label="certificate", clip_on=False,
            )  # fmt: skip
        _decorate(axes, *titles, log=log)
        axes.set_xlabel("training step")
        if final is not None or any(label for _, label, _, _ in lines):
            axes.legend()
        return figure


def _decorate(axes: Axes, title: str, unit: str, *, log: bool) -> None:
    axes.set_title(title)
    axes.set_ylabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if log:
        axes.set_yscale("log")
        log_ticks(axes.yaxis, *axes.get_ylim())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def errors_by_structure(source: Source) -> Figure | None:
    """Estimated energy errors of all structures, smallest first.

    Args:
        source: The run.

    Returns:
        The figure; None with few structures or without estimates.
    """
    known = [s.error_estimate for s in source.structures]
    errors = np.sort([e for e in known if e is not None and e > 0])
    if len(errors) < FEW:
        return None
    with style():
        figure, axes = new_axes()
        marker = "o" if len(errors) <= 200 else ""
        axes.plot(np.arange(1, len(errors) + 1), errors, color=BLUE, marker=marker, markersize=3)
        _decorate(axes, "Estimated energy error by structure", "Eh", log=True)
        axes.set_xlabel("structures, best to worst")
        return figure
