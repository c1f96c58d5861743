"""The results of a command: the table at the end, the JSON, and the exit line."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from deeph_zero.errors import ComputationError
from deeph_zero.files import to_json
from deeph_zero.reporting import Reporter

MAX_ROWS = 20
COLUMNS = (
    "structure", "energy / Eh", "error est.", "gradient", "residual", "HOMO", "LUMO", "gap",
    "dipole / D", "converged",
)  # fmt: skip


def show_summary(
    summary: Mapping[str, Any], reporter: Reporter, *, as_json: bool, out: Path
) -> None:
    """Print what was computed.

    Args:
        summary: As in ``summary.json``.
        reporter: Where people read.
        as_json: Print the summary itself on standard output.
        out: Run folder or HDF5 file.
    """
    if as_json:
        click.echo(to_json(summary))
        return
    structures = summary.get("structures") or []
    rows = [_row(entry) for entry in structures[:MAX_ROWS]]
    reporter.table(f"{summary.get('xc')}/{summary.get('basis')}, hartree", COLUMNS, rows)
    if len(structures) > MAX_ROWS:
        reporter.message(f"... and {len(structures) - MAX_ROWS} more in {_summary_path(out)}")
    builds, seconds = summary.get("fock_builds"), summary.get("wall_time_s") or 0.0
    stopped = f", stopped by: {summary['stopped_by']}" if summary.get("stopped_by") else ""
    reporter.message(f"{builds} Fock builds, {seconds:.1f} s{stopped}")
    _show_files(reporter, out)


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
        summary: As in ``summary.json``.
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
        total = len(failed) + len(summary.get("structures") or [])
        raise ComputationError(
            f"{len(failed)} of {total} structures failed, the first one {first['file']}{frame}: "
            f"{first['error']}; the others are kept, see 'failed' in {where}"
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
def keeping(out: Path) -> Iterator[None]:
    """Say after Ctrl-C that the structures done so far are kept.

    Args:
        out: HDF5 file, written by the engine before it lets Ctrl-C through.

    Raises:
        KeyboardInterrupt: The same, with the sentence.
    """
    try:
        yield
    except KeyboardInterrupt:
        kept = f"; the structures done so far are kept in {out}" if out.exists() else ""
        raise KeyboardInterrupt(f"interrupted{kept}") from None


def _row(entry: Mapping[str, Any]) -> list[str]:
    name = Path(str(entry.get("file") or "-")).name
    frame = entry.get("frame")
    dipole = entry.get("dipole")
    size = None if dipole is None else sum(x * x for x in dipole) ** 0.5
    return [
        name if frame is None else f"{name}:{frame}",
        _number(entry.get("energy"), ".8f"),
        _number(entry.get("energy_error_estimate"), ".1e"),
        _number(entry.get("orbital_gradient_rms"), ".1e"),
        _number(entry.get("residual_mae"), ".1e"),
        _number(entry.get("homo"), ".4f"),
        _number(entry.get("lumo"), ".4f"),
        _number(entry.get("gap"), ".4f"),
        _number(size, ".4f"),
        {True: "yes", False: "no"}.get(entry.get("converged"), "-"),  # pyright: ignore
    ]


def _number(value: float | Sequence[float | None] | None, form: str) -> str:
    """A number, "alpha/beta" for two, "-" where there is none."""
    if isinstance(value, list | tuple):
        return "/".join(_number(v, form) for v in value)
    return "-" if value is None else format(value, form)
