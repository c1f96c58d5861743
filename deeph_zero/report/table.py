"""The table of structures and the list of settings and versions."""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from deeph_zero.report.data import Source
from deeph_zero.report.numbers import MISSING, length, number, says_something, show, sort_key

MAX_ROWS = 2000
"""Rows of the table; the rest stays in summary.json."""

# key in the summary, heading, unit, format
_COLUMNS = (
    ("charge", "Charge", "", ".0f"),
    ("spin", "2S", "", ".0f"),
    ("energy", "Energy", "Eh", ".8f"),
    ("free_energy", "Free energy", "Eh", ".8f"),
    ("fermi", "Fermi level", "Eh", ".4f"),
    ("moment", "Moment", "electrons", ".3f"),
    ("energy_error_estimate", "Error estimate", "Eh", ".1e"),
    ("orbital_gradient_rms", "Orbital gradient", "Eh", ".1e"),
    ("residual_mae", "Residual", "Eh", ".1e"),
    ("homo", "HOMO", "Eh", ".4f"),
    ("lumo", "LUMO", "Eh", ".4f"),
    ("gap", "Gap", "Eh", ".4f"),
    ("network_homo", "HOMO of H", "Eh", ".4f"),
    ("network_lumo", "LUMO of H", "Eh", ".4f"),
    ("network_gap", "Gap of H", "Eh", ".4f"),
    ("dipole", "Dipole", "D", ".4f"),
    ("spin_square", "⟨S²⟩", "", ".4f"),
    ("refined_energy", "Refined energy", "Eh", ".8f"),
    ("refined_spin_square", "Refined ⟨S²⟩", "", ".4f"),
    ("refine_iterations", "SCF cycles", "", ".0f"),
)
_PACKAGES = ("torch", "pyscf", "numpy")
_SETTINGS = (
    ("xc", "functional"), ("basis", "basis"), ("auxbasis", "fitting set"),
    ("density_fit", "density fitting"), ("grid_level", "grid level"), ("charge", "charge"),
    ("spin", "spin (2S)"), ("loss", "loss"), ("seed", "seed"), ("threads", "threads"),
    ("device", "device"), ("stopped_by", "stopped by"), ("skipped_steps", "skipped steps"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Cell:
    """What a cell shows and what it sorts by (None: unknown, always last)."""

    text: str
    key: float | str | None


def structure_table(source: Source) -> tuple[list[tuple[str, str]], list[list[Cell]]]:
    """All structures, columns that no structure has left out.

    Args:
        source: The run.

    Returns:
        Headings with units, and rows of cells.
    """
    entries = [structure.entry for structure in source.structures]
    used = [column for column in _COLUMNS if says_something(column[0], entries)]
    several = len({s.formula for s in source.structures}) > 1  # else the title says it
    heads = [("Structure", ""), *((c[1], c[2]) for c in used), ("Converged", "")]
    if several:
        heads.insert(1, ("Formula", ""))
    rows = []
    for structure in source.structures[:MAX_ROWS]:
        entry = structure.entry
        cells = [Cell(structure.name, structure.name)]
        if several:
            cells.append(Cell(structure.formula or MISSING, structure.formula or None))
        for key, _, _, form in used:
            value = length(entry.get(key)) if key == "dipole" else entry.get(key)
            cells.append(Cell(show(value, form), sort_key(value)))
        flag = entry.get("converged")
        text = {True: "yes", False: "no"}.get(flag, MISSING)  # pyright: ignore
        rows.append([*cells, Cell(text, None if flag is None else float(bool(flag)))])
    return heads, rows


def provenance(source: Source) -> list[tuple[str, str]]:
    """Versions, settings and the command line.

    Args:
        source: The run.

    Returns:
        Name and value of each, without those that are unknown.
    """
    summary, model = source.summary, source.model
    finished = datetime.fromtimestamp(source.summary_path.stat().st_mtime, UTC)
    rows = [
        ("command", summary.get("command")),
        ("deeph-zero", summary.get("version")),
        ("finished", f"{finished:%Y-%m-%d %H:%M} UTC"),
        *((label, summary.get(key)) for key, label in _SETTINGS),
        ("functional's parts", _components(model.get("xc_components"))),
        ("network", _network(model)),
        ("e3nn of the model", model.get("e3nn_version")),
        ("Clebsch-Gordan fingerprint", model.get("cg_fingerprint")),
        ("weights (sha256)", model.get("sha256")),
        ("AO order and units", "PySCF's; hartree atomic units, dipole in debye"),
        ("page written with", _versions()),
    ]
    return [(name, _text(value)) for name, value in rows if value is not None and value != ""]


def _text(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _components(parts: Any) -> str | None:
    if not isinstance(parts, list):
        return None
    pairs = [p for p in parts if isinstance(p, list) and len(p) == 2]
    return ", ".join(f"{show(p[1], 'g')} {p[0]}" for p in pairs) or None


def _network(model: Mapping[str, Any]) -> str | None:
    network = model.get("network")
    if not isinstance(network, dict):
        return None
    cutoff = number(network.get("cutoff"))
    text = f"{network.get('n_layers')} layers, inputs: {network.get('inputs')}"
    return text + (f", cutoff {cutoff:g} bohr" if cutoff is not None else "")


def _versions() -> str:
    names = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            names.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(names)
