"""The results of a command: the table at the end, the JSON, and the exit line."""

import contextlib
import math
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from deeph_zero.errors import ComputationError
from deeph_zero.host.files import journal_beside, to_json
from deeph_zero.host.reporting import Reporter
from deeph_zero.host.signals import saying
from deeph_zero.report.numbers import FAINT, IN_INTERVALS, plural, says_something, structure_name
from deeph_zero.report.numbers import interval as between
from deeph_zero.units import HARTREE_IN_EV

MAX_ROWS = 20
WIDE = 110
"""Terminal columns from which the table of many structures shows every quantity."""

# key in the summary, heading of the table, format, shown on a narrow terminal too
_QUANTITIES = (
    ("charge", "charge", "d", True),
    ("spin", "2S", "d", True),
    ("energy", "energy / Eh", ".8f", True),
    ("free_energy", "free / Eh", ".8f", False),
    ("fermi", "Fermi", ".4f", False),
    ("moment", "moment", ".3f", False),
    ("energy_error_estimate", "error est.", ".1e", True),
    ("orbital_gradient_rms", "gradient", ".1e", True),
    ("residual_mae", "residual", ".1e", False),
    ("homo", "HOMO", ".4f", False),
    ("lumo", "LUMO", ".4f", False),
    ("gap", "gap", ".4f", False),
    ("network_homo", "HOMO of H", ".4f", False),
    ("network_lumo", "LUMO of H", ".4f", False),
    ("network_gap", "gap of H", ".4f", False),
    ("dipole", "dipole / D", ".4f", False),
    ("spin_square", "<S^2>", ".4f", False),
    ("refined_energy", "refined / Eh", ".8f", True),
    ("refined_spin_square", "refined <S^2>", ".4f", False),
    ("refine_fock_builds", "builds", "d", False),
    ("refine_iterations", "cycles", "d", False),
    ("standard_start_iterations", "standard", "d", False),
    ("forces", "max force", ".1e", False),
    ("polarizability", "polarisability", ".3f", False),
    ("frequencies", "strongest IR", ".0f", False),
    ("converged", "converged", "", True),
)
_NAMES = {
    "spin": "unpaired electrons (2S)",
    "free_energy": "free energy",
    "fermi": "Fermi level",
    "moment": "magnetic moment / electrons",
    "energy": "energy at the network's density",
    "energy_error_estimate": "estimated error of that energy",
    "orbital_gradient_rms": "orbital gradient, rms",
    "residual_mae": "mean |H - F[P(H)]|",
    "network_homo": "HOMO of the network's H",
    "network_lumo": "LUMO of the network's H",
    "network_gap": "gap of the network's H",
    "dipole": "dipole moment / D",
    "refined_energy": "refined energy",
    "refine_fock_builds": "Fock builds of the refinement",
    "refine_iterations": "SCF cycles of the refinement",
    "standard_start_iterations": "SCF cycles from superposed atoms",
    "forces": "largest force on an atom, Eh/bohr",
    "polarizability": "mean polarisability / bohr^3",
    "frequencies": "strongest infrared line / cm^-1",
}


def show_summary(
    summary: Mapping[str, Any], reporter: Reporter, *, as_json: bool, out: Path
) -> None:
    """Print what was computed.

    Args:
        summary: Content of ``summary.json``.
        reporter: Where people read.
        as_json: Print the summary itself on standard output.
        out: Run folder or HDF5 file.
    """
    if as_json:
        click.echo(to_json(summary))
        return
    structures = summary.get("structures") or []
    basis = summary.get("basis")
    theirs = {str(e["basis"]) for e in structures if e.get("basis") not in {None, basis}}
    of_crystals = f" (crystals: {', '.join(sorted(theirs))})" if theirs else ""
    title = f"{summary.get('xc')}/{basis}{of_crystals}, hartree"
    if len(structures) == 1:
        reporter.table(title, ("", structure_name(structures[0])), _card(structures[0]))
    elif structures:
        reporter.table(title, *_rows(structures[:MAX_ROWS]))
    if len(structures) > MAX_ROWS:
        reporter.message(f"... and {len(structures) - MAX_ROWS} more in {_summary_path(out)}")
    seconds = summary.get("wall_time_s") or 0.0
    reason = summary.get("stopped_by")
    stopped = f", {'' if reason == 'converged' else 'stopped by: '}{reason}" if reason else ""
    reporter.message(f"{builds(summary)}, {seconds:.1f} s{stopped}")
    _show_files(reporter, out)


def builds(summary: Mapping[str, Any]) -> str:
    """What a command cost, in words.

    Args:
        summary: With ``fock_builds`` and ``coarse_builds``.

    Returns:
        For example "3 Fock builds and 9 coarse ones".
    """
    fine, coarse = summary.get("fock_builds") or 0, summary.get("coarse_builds") or 0
    return plural(fine, "Fock build") + (f" and {plural(coarse, 'coarse one')}" if coarse else "")


def _show_files(reporter: Reporter, out: Path) -> None:
    """Say where the files are."""
    if out.is_dir():
        names = ", ".join(sorted(p.name for p in out.iterdir() if not p.name.startswith(".")))
        reporter.message(f"written: {out}/ ({names})")
    else:
        reporter.message(f"written: {out} and {_summary_path(out)}")


def _summary_path(out: Path) -> Path:
    return out / "summary.json" if out.is_dir() else out.with_suffix(".json")


def require_success(
    summary: Mapping[str, Any], *, out: Path, cure: str = "", asked: int | None = None
) -> None:
    """Raise when the computation did not reach what was asked.

    Args:
        summary: Content of ``summary.json``.
        out: Where the result is kept.
        cure: What to do when it did not converge.
        asked: Structures there were to compute, where a stop leaves some without an entry.

    Raises:
        ComputationError: If structures failed or did not converge.
    """
    where = _summary_path(out)
    failed = summary.get("failed") or []
    if failed:
        first = failed[0]
        frame = "" if first.get("frame") is None else f" frame {first['frame']}"
        done = len(summary.get("structures") or [])
        stopped = ""
        if summary.get("stopped_by") and asked is not None:
            stopped = f"stopped by {summary['stopped_by']} with {done} of {asked} done; "
        raise ComputationError(
            f"{stopped}{len(failed)} of {len(failed) + done} structures failed, the first one "
            f"{first['file']}{frame}: {first['error']}; {'the others are kept, ' * bool(done)}see "
            f"'failed' in {where}{cure if stopped else ''}"
        )
    if not summary.get("converged", True):
        entries = summary.get("structures") or []
        count = sum(entry.get("converged") is False for entry in entries)
        stopped = f", stopped by {summary['stopped_by']}" if summary.get("stopped_by") else ""
        if asked is not None and len(entries) < asked:
            raise ComputationError(
                f"not finished: {len(entries)} of {asked} structures done{stopped}; "
                f"the result is kept in {out}{cure}"
            )
        raise ComputationError(
            f"not converged: {count} of {len(entries)} structures{stopped}; "
            f"the result is kept in {out}{cure}"
        )


@contextlib.contextmanager
def keeping(out: Path, command: str) -> Iterator[None]:
    """Say after Ctrl-C or SIGTERM what is kept, and how to go on.

    Args:
        out: The output, written by the engine before it lets the signal through.
        command: Command line as typed.

    Raises:
        Stopped: The signal, with a sentence that says what is left.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        kept = f"; the structures done so far are kept in {out}" if out.exists() else ""
        if journal_beside(out).exists():
            kept += f"; go on with: {resuming(command)}"
        raise saying(stop, kept) from None


def resuming(command: str) -> str:
    """The command with which to go on, from the one that was interrupted."""
    words = [w for w in shlex.split(command) if w not in ("--overwrite", "--resume")]
    return shlex.join([*words, "--resume"])


def _card(entry: Mapping[str, Any]) -> list[list[str]]:
    """One structure, a quantity a line."""
    names = _NAMES
    if entry.get("residual_mae") is None:  # no network: the energy of an SCF
        names = names | {"energy": "energy"}
    shown = {
        key: [names.get(key, heading.split(" /")[0]), _cell(entry, key, form)]
        for key, heading, form, _ in _QUANTITIES
        if says_something(key, [entry])
    }
    last = [shown.pop(key) for key in ("converged",) if key in shown]
    return [*shown.values(), *_more(entry), *last]


def _more(entry: Mapping[str, Any]) -> Iterator[list[str]]:
    """What has no place in a table of many: errors, intervals and charges."""
    error = entry.get("polarizability_error_estimate")
    if error is not None:
        yield ["estimated error of an element of it", format(error, ".3f")]
    for name, interval in (entry.get("intervals") or {}).items():
        many = interval if isinstance((interval or [None])[0], list | tuple) else [interval]
        words, unit, digits = IN_INTERVALS.get(name, (name, "", 4))
        cells = ["-" if one is None else between(one[0], one[1], digits) for one in many]
        is_level = unit == "Eh" and "energy" not in words
        if is_level and len(cells) == 1 and interval:  # of two spins there is no room for both
            low, high = (HARTREE_IN_EV * end for end in interval)
            cells[0] += f" ({between(low, high, 3)} eV)"
        yield [f"converged {words}, 95 % interval", " / ".join(cells)]
    charges = entry.get("refined_lowdin_charges") or entry.get("lowdin_charges")
    if charges:
        yield ["Lowdin charges of atoms", f"{min(charges):+.3f} to {max(charges):+.3f}"]


def _rows(entries: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and one line per structure, as many quantities as the terminal has room for."""
    wide = shutil.get_terminal_size((160, 24)).columns >= WIDE
    shown = [
        (key, heading, form)
        for key, heading, form, always in _QUANTITIES
        if (wide or always) and says_something(key, entries)
    ]
    cells = [[structure_name(e), *(_cell(e, key, form) for key, _, form in shown)] for e in entries]
    return ["structure", *(heading for _, heading, _ in shown)], cells


def _cell(entry: Mapping[str, Any], key: str, form: str) -> str:
    value: Any = entry.get(key)
    if key == "converged":
        return {True: "yes", False: "no"}.get(value, "-")  # pyright: ignore
    if key == "dipole" and value is not None:
        value = math.hypot(*value)
    if key == "forces" and value is not None:
        value = max(math.hypot(*row) for row in value)
    if key == "polarizability" and value is not None:
        value = sum(value[k][k] for k in range(3)) / 3
    if key == "frequencies" and value:
        height, at = max(zip(entry["ir_intensities"], value, strict=True))
        value = None if height < FAINT else at
    return _number(value, form)


def _number(value: float | int | Sequence[float | None] | None, form: str) -> str:
    """A number, "alpha/beta" for two, "-" where there is none."""
    if isinstance(value, list | tuple):
        return "/".join(_number(v, form) for v in value)
    if value is None:
        return "-"
    return format(value, f"z{form}" if isinstance(value, float) else form)  # no "-0.000"
