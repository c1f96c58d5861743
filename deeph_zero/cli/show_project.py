"""What ``deeph-zero project`` found, on the terminal or as JSON."""

from collections.abc import Mapping
from typing import Any

import rich_click as click

from deeph_zero.host.files import to_json
from deeph_zero.host.reporting import Reporter
from deeph_zero.units import HARTREE_IN_EV


def show_projection(summary: Mapping[str, Any], reporter: Reporter, *, as_json: bool) -> None:
    """Print the summary.

    Args:
        summary: What was computed.
        reporter: Where the table goes.
        as_json: JSON on stdout in its place.
    """
    if as_json:
        click.echo(to_json(dict(summary)))
        return
    mesh = " ".join(str(n) for n in summary["kmesh"])
    rows = [
        ["functions, electrons per cell", f"{summary['n_functions']}, {summary['n_electrons']}"],
        [f"Fermi level (mesh {mesh})", _both(summary["fermi"])],
        ["gap on the mesh", _both(summary["gap"])],
        ["gap along " + _path(summary["bands"]["labels"]), _both(summary["bands"]["gap"])],
        ["overlap on the grid, largest error", f"{summary['grid_overlap_error']:.1e}"],
        ["levels from the blocks, largest error", f"{summary['block_error']:.1e} Eh"],
    ]
    if summary["magnetic_moment"] is not None:
        rows.insert(2, ["magnetic moment per cell", f"{summary['magnetic_moment']:.4f}"])
    reporter.table("projection", ["", ""], rows)
    reporter.message(f"written: {summary['written']}")


def _both(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:.5f} Eh = {value * HARTREE_IN_EV:.3f} eV"


def _path(labels: list[list[Any]]) -> str:
    """Letters of the path, a comma where a line ends and another begins."""
    text = ""
    last = None
    for name, x in labels:
        text += f",{name}" if last == x else name
        last = x
    return text
