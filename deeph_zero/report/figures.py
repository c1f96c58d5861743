"""How every figure of a report looks, and how it becomes inline SVG, SVG files and PNG files."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator

from deeph_zero.host.files import atomic_path, write_text
from deeph_zero.report.numbers import SUPERSCRIPTS

# Okabe and Ito's palette: told apart by colour-blind readers and in grey
BLUE, ORANGE, GREEN, PINK, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"
INK, FAINT = "#222223", "#b9b9ba"
_CSS = {INK: "currentColor", FAINT: "var(--line)", BLUE: "var(--blue)", ORANGE: "var(--orange)",
        GREEN: "var(--green)", PINK: "var(--pink)"}  # fmt: skip
NARROW = 50.0
"""Ratio of the ends of a logarithmic axis below which decades alone are too few ticks."""
MIN_TICKS = 2
"""Fewest decades of a logarithmic axis."""
PNG_DPI = 200
WIDTH, HEIGHT = 4.2, 2.9
"""Size of a plot, inches: about the width of a phone, so that letters stay readable there."""

_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "svg.hashsalt": "deeph-zero",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.5,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "mathtext.default": "regular",
    "savefig.transparent": True,
}


@contextmanager
def style() -> Iterator[None]:
    """The look of a report's figures, inside this block only."""
    with mpl.rc_context(_STYLE):
        yield


def new_axes(width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure that no global state knows of.

    Args:
        width: Inches.
        height: Inches.

    Returns:
        Figure and its axes.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def log_ticks(axis: Axis, low: float, high: float) -> None:
    """A few ticks on a logarithmic axis, named in plain text: mathematical text costs seconds.

    Args:
        axis: The axis; its scale is logarithmic.
        low: Lower end, > 0.
        high: Upper end.
    """
    axis.set_major_locator(_locator(low, high))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    axis.set_minor_locator(NullLocator())


def _locator(low: float, high: float) -> Locator:
    """Powers of ten, or as many of their multiples as two ticks take."""
    if high / low > NARROW:
        return LogLocator(subs=(1.0,), numticks=6)
    for subs in ((1.0, 2.0, 5.0), tuple(float(k) for k in range(1, 10))):
        locator = LogLocator(subs=subs, numticks=12)
        if sum(low <= tick <= high for tick in locator.tick_values(low, high)) >= MIN_TICKS:
            return locator
    return MaxNLocator(4)


def _power(value: float) -> str:
    """Text such as "10⁻³" or "2·10⁻³"; numbers from 0.1 to 900 as they are."""
    mantissa, exponent = f"{value:.2e}".split("e")
    mantissa = f"{float(mantissa):g}"
    if -1 <= int(exponent) <= 2:
        return f"{value:g}"
    power = str(int(exponent)).translate(SUPERSCRIPTS)
    return f"10{power}" if mantissa == "1" else f"{mantissa}·10{power}"


def inline_svg(figure: Figure, label: str, prefix: str) -> str:
    """The figure as an SVG element whose colours follow the page.

    Args:
        figure: The figure.
        label: What it shows, for people who do not see it; plain text without markup.
        prefix: Unique on the page, so that identifiers of several figures do not collide.

    Returns:
        Markup.
    """
    text = _svg(figure)
    text = text[text.index("<svg") :]
    used = set(re.findall(r"(?:url\(#|href=\"#)([\w-]+)", text))
    text = re.sub(
        r" id=\"([\w.-]+)\"",
        lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "",
        text,
    )
    text = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{prefix}-", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    for colour, variable in _CSS.items():
        text = text.replace(colour, variable)
    safe = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg", f'<svg role="img" aria-label="{safe}"', 1)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``name.svg`` and ``name.png``.

    Args:
        figure: The figure.
        folder: Where; it exists.
        name: Without ending.

    Returns:
        Both paths.
    """
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    write_text(paths[0], _svg(figure))
    write_png(figure, paths[1])
    return paths


def write_png(figure: Figure, path: Path) -> None:
    """Write a PNG file.

    Args:
        figure: The figure.
        path: The file.
    """
    with style(), atomic_path(path) as temporary:
        # a transparent picture with dark letters cannot be read in a dark viewer
        figure.savefig(temporary, format="png", dpi=PNG_DPI, transparent=False, facecolor="white")


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    with style():
        # no date and no program: the same run gives the same file
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", metadata=nothing)
    return stream.getvalue()
