"""Puts a report together: one HTML file that needs nothing else, and the plots as files."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.figure import Figure

from deeph_zero.errors import InputError, argument
from deeph_zero.host.files import write_text
from deeph_zero.host.version import __version__
from deeph_zero.report import (
    DEFAULT_MOLECULES,
    cells,
    crystals,
    curves,
    figures,
    heat,
    levels,
    sentences,
    spectrum,
    table,
    volumes,
)
from deeph_zero.report.data import Matrices, Source, Structure, choose, read_source

MAX_MAPS = 2
"""Structures whose matrices are drawn: the worst and the best."""
REPORT_FILE = "report.html"


@dataclasses.dataclass
class _Close:
    """One structure looked at closely.

    Attributes:
        structure: Which.
        matrices: Its matrices.
        mol: PySCF's Mole; None if the basis set cannot be had.
        note: Why there is no Mole.
    """

    structure: Structure
    matrices: Matrices
    mol: Any
    note: str

    @property
    def label(self) -> str:
        """Name and formula."""
        return _label(self.structure)


def write_report(source: Path, out: Path, *, molecules: int = DEFAULT_MOLECULES) -> Path:
    """Write the page.

    Args:
        source: Run folder, or HDF5 file of ``predict`` or ``label``.
        out: The HTML file.
        molecules: How many structures get orbital levels and surfaces, the worst first.

    Returns:
        ``out``.

    Raises:
        InputError: If the source cannot be read.
        ComputationError: If the page cannot be written.
    """
    write_text(out, render(read_source(source), molecules=molecules))
    return out


def write_plots(source: Path, folder: Path, *, molecules: int = DEFAULT_MOLECULES) -> list[Path]:
    """Write every plot as SVG and PNG.

    Args:
        source: Run folder, or HDF5 file of ``predict`` or ``label``.
        folder: Where; made if needed.
        molecules: How many structures get plots of their own.

    Returns:
        The files.

    Raises:
        InputError: If the source cannot be read.
        ComputationError: If a file cannot be written.
    """
    read = read_source(source)
    with contextlib.suppress(OSError):  # writing into it will say what is wrong
        folder.mkdir(parents=True, exist_ok=True)
    named = [(name, figure) for name, (_, figure) in _run_figures(read).items()]
    for k, close in enumerate(_look_closely(read, molecules)):
        group = close.structure.group
        named.append((f"levels_{group}", levels.ladder(close.matrices, "Orbital energies")))
        named += [(f"{name}_{group}", f) for name, (_, f) in _spectra(close).items()]
        if k < MAX_MAPS:
            named += [(f"{name}_{group}", f) for name, (_, f) in _maps(close).items()]
    named += [(f"bands_{s.group}", figure) for s, _, figure in _crystals(read, molecules)[0]]
    return [path for name, figure in named for path in figures.save(figure, folder, name)]


def render(source: Source, *, molecules: int = DEFAULT_MOLECULES) -> str:
    """The page as text.

    Args:
        source: What it is about.
        molecules: How many structures get a close look.

    Returns:
        HTML.
    """
    closes = _look_closely(source, molecules)
    banded, lost = _crystals(source, molecules)
    surfaces, flat = _cells(source, molecules)
    first = closes[0] if closes else None
    subject = first.structure if first else _least_certain(source.structures)
    heads, rows = table.structure_table(source)
    parts = {
        "title": sentences.title(source),
        "headline": sentences.headline(source),
        "tiles": sentences.tiles(source, first.matrices if first else None),
        "account": sentences.account(source),
        "certificate": sentences.certificate(source, subject, first.matrices if first else None)
        if subject
        else [],
        "subject": _which(subject) if subject and len(source.structures) > 1 else "",
        "heads": heads,
        "rows": rows,
        "left_out": max(0, len(source.structures) - len(rows)),
        "failed": [f for f in source.summary.get("failed") or [] if isinstance(f, dict)],
        "curves": list(_inline(_run_figures(source), "run")),
        "trained": source.kind == "run",
        "close": [
            *(_close_part(k, close) for k, close in enumerate(closes)),
            *(_crystal_part(k, *found) for k, found in enumerate(banded)),
        ],
        "notes": [*_notes(source, closes, molecules, shown=len(banded) + len(lost)), *lost, *flat],
        "provenance": table.provenance(source),
        "version": __version__,
    }
    scenes = [{"label": c.label} | volumes.scene(c.matrices, c.mol) for c in closes if c.mol]
    scenes += surfaces
    return _environment().get_template("report.html.jinja").render(
        **parts,
        scenes=_json_in_script({"scenes": scenes, "clip": volumes.CLIP, "levels": volumes.LEVELS}),
        has_scenes=bool(scenes),
        scenes_title="Cell, density and orbitals" if surfaces else "Molecule and orbitals",
        viewer=_resource("vendor/3Dmol-min.js") if scenes else "",
        licence=_resource("vendor/LICENSE-3Dmol.txt") if scenes else "",
        css=_resource("templates/report.css"),
        script=_resource("templates/report.js"),
    )  # fmt: skip


def _least_certain(structures: list[Structure]) -> Structure | None:
    return next(iter([*choose(structures, 1), *structures]), None)


def _which(structure: Structure) -> str:
    """What of several structures the certificate is about."""
    known = structure.error_estimate is not None
    return structure.name + ", the least certain one" * known


def _run_figures(source: Source) -> dict[str, tuple[str, Figure]]:
    found = dict(curves.training_curves(source))
    errors = curves.errors_by_structure(source)
    if errors is not None:
        found["errors"] = "Estimated energy error by structure", errors
    return found


def _maps(close: _Close) -> dict[str, tuple[str, Figure]]:
    offsets = volumes.offsets_of(close.mol) if close.mol else None
    return heat.heat_maps(close.matrices, offsets)


def _spectra(close: _Close) -> dict[str, tuple[str, Figure]]:
    figure = spectrum.spectrum(close.structure.entry)
    return {} if figure is None else {"spectrum": ("Infrared spectrum", figure)}


def _close_part(k: int, close: _Close) -> dict[str, Any]:
    ladder = {"levels": ("Orbital energies", levels.ladder(close.matrices, "Orbital energies"))}
    plots = ladder | _spectra(close) | (_maps(close) if k < MAX_MAPS else {})
    return {"label": close.label, "plots": list(_inline(plots, f"m{k}"))}


def _crystals(source: Source, count: int) -> tuple[list[tuple[Structure, str, Figure]], list[str]]:
    """Bands of the crystals among the structures to look at, and why others have none."""
    chosen = [s for s in choose(source.structures, count) if s.periodic]
    if source.hdf5 is None or not chosen:
        return [], []
    return crystals.crystal_figures(source.hdf5, chosen)


def _cells(source: Source, count: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Scenes of the crystals among the structures to look at, and why others have none."""
    scenes, notes = [], []
    for structure in choose(source.structures, count):
        if source.hdf5 is None or not structure.periodic:
            continue
        label = _label(structure)
        try:
            matrices = cells.read_cell(source.hdf5, structure)
            if matrices is not None:
                found = cells.scene(matrices, cells.cell_of(matrices))
                scenes.append({"label": label} | found)
        except InputError as error:
            notes.append(f"No surfaces for {label}: {error}.")
    return scenes, notes


def _crystal_part(k: int, structure: Structure, caption: str, figure: Figure) -> dict[str, Any]:
    plots = {"bands": (caption, figure)}
    return {"label": _label(structure), "plots": list(_inline(plots, f"c{k}"))}


def _label(structure: Structure) -> str:
    """Name and formula."""
    return f"{structure.name} ({structure.formula})"


def _inline(plots: dict[str, tuple[str, Figure]], prefix: str) -> Iterator[str]:
    for name, (caption, figure) in plots.items():
        yield figures.inline_svg(figure, caption, f"{prefix}-{name}")


def _look_closely(source: Source, count: int) -> list[_Close]:
    closes = []
    for structure in choose(source.structures, count):
        matrices = source.matrices(structure)
        if matrices is None:
            continue
        try:
            mol, note = volumes.mole_of(matrices), ""
        except InputError as error:
            mol, note = None, str(error)
        closes.append(_Close(structure, matrices, mol, note))
    return closes


def _notes(source: Source, closes: list[_Close], count: int, *, shown: int) -> list[str]:
    notes = [f"No surfaces and blocks for {c.label}: {c.note}." for c in closes if c.note]
    if source.hdf5 is None:
        notes.append(
            "The file with the matrices is missing: no orbitals, no matrices, no surfaces."
        )
    elif source.kind == "matrices" and not shown:
        notes.append(
            "Functions that are known by their angular momenta alone are not drawn; crystals have "
            "bands, deeph-zero evaluate compares levels."
        )
    elif not closes and not shown and count > 0:
        notes.append("No structure was finished: there are no matrices to show.")
    elif len(closes) + shown < len(source.structures):
        notes.append(
            f"Shown are {len(closes) + shown} of {len(source.structures)} structures, the ones "
            "with the largest and the smallest estimated error first; a larger number of "
            f"{argument('molecules')} shows more."
        )
    return notes


def _environment() -> jinja2.Environment:
    loader = jinja2.FunctionLoader(lambda name: _resource(f"templates/{name}"))
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def _resource(name: str) -> str:
    return resources.files("deeph_zero.report").joinpath(name).read_text("utf-8")


def _json_in_script(data: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
