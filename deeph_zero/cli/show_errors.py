"""The error table of an evaluation, as people read it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from deeph_zero.cli.show import MAX_ROWS, builds
from deeph_zero.host.files import to_json
from deeph_zero.host.reporting import Reporter
from deeph_zero.report.numbers import plural, says_something, structure_name
from deeph_zero.units import HARTREE_IN_EV

# path in ``errors``, words, unit
_LINES = (
    ("fock mae", "H, all elements", "uEh"),
    ("fock blocks occ-occ", "H, occ-occ", "uEh"),
    ("fock blocks occ-virt", "H, occ-virt", "uEh"),
    ("fock blocks virt-virt", "H, virt-virt", "uEh"),
    ("rebuilt mae", "H~ = F[P(H)], all elements", "uEh"),
    ("rebuilt blocks occ-occ", "H~, occ-occ", "uEh"),
    ("rebuilt blocks occ-virt", "H~, occ-virt", "uEh"),
    ("rebuilt blocks virt-virt", "H~, virt-virt", "uEh"),
    ("fock occupied_energy_mae", "occupied orbital energies of H", "uEh"),
    ("rebuilt occupied_energy_mae", "occupied orbital energies of H~", "uEh"),
    ("rebuilt mo_energy_mae", "all orbital energies of H~", "uEh"),
    ("rebuilt homo_mae", "HOMO of H~", "uEh"),
    ("rebuilt lumo_mae", "LUMO of H~", "uEh"),
    ("rebuilt gap_mae", "gap of H~", "uEh"),
    ("energy_error", "energy E[P(H)]", "uEh"),
    ("estimates energy_error", "energy after its estimate", "uEh"),
    ("estimates homo_error", "HOMO after its estimate", "uEh"),
    ("estimates lumo_error", "LUMO after its estimate", "uEh"),
    ("estimates gap_error", "gap after its estimate", "uEh"),
    ("fock bands_max", "bands of H, largest error", "meV"),
    ("rebuilt bands_max", "bands of H~, largest error", "meV"),
    ("fock bands_constant", "bands of H, all by the same", "meV"),
    ("rebuilt bands_constant", "bands of H~, all by the same", "meV"),
    ("energy_error_per_atom", "energy per atom", "meV"),
    ("dipole_error", "dipole moment", "mD"),
    ("subspace_distance", "occupied space (rms sine)", "1e-3"),
)
_SCALE = {"meV": 1e3 * HARTREE_IN_EV, "uEh": 1e6, "mD": 1e3, "1e-3": 1e3}


def show_matrix_errors(
    result: Mapping[str, Any], reporter: Reporter, *, as_json: bool, out: Path
) -> None:
    """Print how two files of matrices differ.

    Args:
        result: Content of the JSON file.
        reporter: Where people read.
        as_json: Print the result itself on standard output.
        out: The JSON file.
    """
    if as_json:
        click.echo(to_json(result))
        return
    words = {
        "fock": "H",
        "aligned": "H, the best constant potential taken off",
        "overlap": "S",
        "levels": "levels, likewise",
    }
    rows = []
    for name, text in words.items():
        entry = result["errors"].get(name, {})
        for key, kind in (
            ("mae", "mean absolute"),
            ("occupied_mae", "those filled"),
            ("max", "max"),
        ):
            if key in entry:
                scale, unit = (1e6, "1e-6") if name == "overlap" else (1e3 * HARTREE_IN_EV, "meV")
                rows.append([f"{text}, {kind}", unit, *_numbers(entry[key], scale)])
    title = f"against {result['reference']}: {plural(result['n_structures'], 'structure')}"
    reporter.table(title, ("quantity", "unit", "mean", "rms", "max"), rows)
    by_pair = result["errors"].get("fock", {}).get("elements", {})
    rows = [[k, *_numbers(entry["mae"], 1e3 * HARTREE_IN_EV)] for k, entry in by_pair.items()]
    reporter.table("", ("H by atoms, meV", "mean", "rms", "max"), rows)
    missing = sum(row["missing"] for row in result["structures"])
    if missing:
        reporter.message(f"blocks that one of the files has alone, zero in the other: {missing}")
    for entry in result["failed"][:MAX_ROWS]:
        reporter.warning(f"{entry['file']} frame {entry['frame']}: {entry['error']}")
    reporter.message(f"written: {out}")


def show_errors(result: Mapping[str, Any], reporter: Reporter, *, as_json: bool, out: Path) -> None:
    """Print an evaluation.

    Args:
        result: Content of the JSON file.
        reporter: Where people read.
        as_json: Print the evaluation itself on standard output.
        out: The JSON file.
    """
    if as_json:
        click.echo(to_json(result))
        return
    errors = result["errors"]
    if errors:
        count = result["n_structures"]
        title = f"{result['xc']}/{result['basis']}: errors over {plural(count, 'structure')}"
        reporter.table(title, ("quantity", "unit", "mean", "rms", "max"), list(_table(errors)))
        for name, heading in (("elements", "atoms"), ("shells", "orbitals")):
            rows = [[key, *_numbers(entry, 1e6)] for key, entry in errors["fock"][name].items()]
            reporter.table("", (f"H by {heading}, uEh", "mean", "rms", "max"), rows)
        reporter.table("", *_structures(result["structures"][:MAX_ROWS]))
        if count > MAX_ROWS:
            reporter.message(f"... and {count - MAX_ROWS} more in {out}")
        if "covered" in errors:
            shares = ", ".join(f"{name} {share:.1%}" for name, share in errors["covered"].items())
            reporter.message(f"references inside the 95 % intervals: {shares}")
        if "scf" in errors:
            scf = errors["scf"]
            reporter.message(
                f"SCF to {result['conv_tol']:g} Eh: {scf['builds_minao']} Fock builds from minao, "
                f"{scf['builds_model']} from the model and its inputs: {scf['saved']:.0%} saved"
            )
    reason = f", stopped by: {result['stopped_by']}" if result["stopped_by"] else ""
    reporter.message(f"{builds(result)}, {result['wall_time_s']:.1f} s{reason}")
    reporter.message(f"written: {out}")


def _table(errors: Mapping[str, Any]) -> Iterator[list[str]]:
    for path, words, unit in _LINES:
        entry: Any = errors
        for key in path.split(" "):
            entry = entry.get(key, {})
        if not entry:
            continue  # crystals have some of them, molecules others
        yield [words, unit, *_numbers(entry, _SCALE[unit])]


def _numbers(entry: Mapping[str, float | None], scale: float) -> list[str]:
    values = (entry["mean"], entry["rms"], entry["max"])
    return ["-" if value is None else _short(value * scale) for value in values]


def _short(value: float) -> str:
    """Three significant digits, without an exponent where that is readable."""
    return f"{value:.3g}" if value < 1e3 else f"{value:.0f}"


def _structures(rows: list[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """One line per structure."""
    crystals = all("energy_error_per_atom" in row for row in rows)
    own = "bands / meV" if crystals else "dipole / mD"
    head = ["structure", "H / uEh", "H~ / uEh", "energy / uEh", own, "space / 1e-3"]
    with_scf = all("scf" in row for row in rows)
    state = [key for key in ("charge", "spin") if says_something(key, rows)]
    head[1:1] = [{"spin": "2S"}.get(key, key) for key in state]
    cells = []
    for row in rows:
        values = (
            1e6 * row["fock"]["mae"],
            1e6 * row["rebuilt"]["mae"],
            None if row["energy_error"] is None else 1e6 * row["energy_error"],
            _SCALE["meV"] * row["fock"]["bands_max"] if crystals else 1e3 * row["dipole_error"],
            1e3 * row["subspace_distance"],
        )
        line = [
            structure_name(row),
            *(str(row[key]) for key in state),
            *("-" if v is None else _short(v) for v in values),
        ]
        if with_scf:
            line.append(f"{row['scf']['builds_model']}/{row['scf']['builds_minao']}")
        cells.append(line)
    return [*head, *(["builds"] if with_scf else [])], cells
