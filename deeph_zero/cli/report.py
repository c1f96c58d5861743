"""``deeph-zero report``: one self-contained HTML page about a run, and its plots as files."""

import os
import re
from pathlib import Path
from typing import Any

import rich_click as click

from deeph_zero.cli.options import (
    InputName,
    Invocation,
    OutputPath,
    common_options,
    overwrite_option,
    reporter_for,
    runtime_values,
)
from deeph_zero.errors import InputError
from deeph_zero.host.reporting import Reporter
from deeph_zero.report import DEFAULT_MOLECULES
from deeph_zero.settings.config import RuntimeConfig


@click.command()
@click.argument("run", type=InputName())
@click.option(
    "-o", "--output", type=OutputPath(), default=None, metavar="PATH",
    help="The HTML file (default: report.html in the run, or beside the .h5 file).",
)  # fmt: skip
@click.option("--plots", is_flag=True, help="Also write every plot as SVG and PNG beside it.")
@click.option(
    "--molecules", type=str, default=None, metavar="N",
    help=f"Structures shown with orbitals and surfaces (default: {DEFAULT_MOLECULES}).",
)  # fmt: skip
@overwrite_option
@common_options
@click.pass_obj
def report(invocation: Invocation, **options: Any) -> int:
    """Write one HTML page about RUN that needs no network: numbers, curves, orbitals, surfaces.

    RUN is a folder that fit or train wrote, or the .h5 file of predict, label, bands or
    convert. A run's own report.html is replaced without asking.

    \b
    Example:
      deeph-zero report water_run/
      deeph-zero report water_pred.h5 -o water.html --plots
    """  # noqa: D301  (\b is click's mark)
    config = RuntimeConfig.parse(runtime_values(options, invocation.started))
    molecules = _count(options["molecules"])
    source = Path(options["run"])
    return _report(config, source, molecules, options)


def _count(text: str | None) -> int:
    if text is None:
        return DEFAULT_MOLECULES
    if not re.fullmatch("[0-9]{1,6}", text):
        raise InputError(f"--molecules: expected a count from 0 to 999999, got {text!r}; try 3")
    return int(text)


def _report(config: RuntimeConfig, source: Path, molecules: int, options: dict[str, Any]) -> int:
    from deeph_zero.host import runtime
    from deeph_zero.host.files import to_json
    from deeph_zero.host.outputs import check_apart, check_output, claim_output
    from deeph_zero.host.run_folder import MANIFEST, add, check_folder, settle_plots
    from deeph_zero.host.shipped import is_name
    from deeph_zero.report.data import read_source
    from deeph_zero.report.numbers import plural
    from deeph_zero.report.page import REPORT_FILE, write_plots, write_report

    own = (
        source / REPORT_FILE if source.is_dir() else source.with_name(f"{source.stem}_report.html")
    )
    out = Path(options["output"]) if options["output"] else own
    # a run's own page is made anew from the run: replacing it loses nothing
    again = options["overwrite"] or (
        source.is_dir() and os.path.realpath(out) == os.path.realpath(own)
    )
    place = {"kind": "html", "overwrite": again, "inputs": [source]}
    reporter = reporter_for(config, options)
    if not os.path.lexists(source) and is_name(str(source)):
        raise InputError(
            f"expected a run folder, or an .h5 file of predict or label, got {source}, a model "
            f"that comes with the package; `deeph-zero models {source}` shows its card"
        )
    read_source(source)  # what is wrong with the run is said before anything is written
    check_output(out, **place)
    plots = out.with_name(f"{out.stem}_plots")
    if options["plots"]:
        check_folder(plots)
        check_apart([("-o", out), ("--plots", plots)], [source])
    if options["plots"] and not again and plots.exists():
        raise InputError(f"{plots} exists; use --overwrite or another -o")
    runtime.setup(config)
    with claim_output(out, **place):
        write_report(source, out, molecules=molecules)
        written = write_plots(source, plots, molecules=molecules) if options["plots"] else []
        others = settle_plots(plots, written) if options["plots"] and plots.is_dir() else []
    if source.is_dir():
        add(source, [out, *written, *([plots / MANIFEST] if written else [])])
    if others:
        reporter.warning(
            f"{plots}: {plural(len(others), 'other picture')} lay there before and stayed, such as "
            f"{others[0]}; remove what is of no use"
        )
    if options["as_json"]:
        click.echo(to_json({"report": out, "plots": written, "bytes": out.stat().st_size}))
        return 0
    reporter.message(f"written: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    if written:
        reporter.message(f"written: {plots}/ ({len(written)} files)")
    return 0


def report_run(out: Path, reporter: Reporter) -> None:
    """Write the report of a run that has just ended; what goes wrong is a warning.

    Nothing is written without predictions, or where the page is newer than the summary (a finished
    run that was asked to go on).

    Args:
        out: Run folder.
        reporter: Where the warning goes.
    """
    summary, page = out / "summary.json", out / "report.html"
    if not (summary.is_file() and (out / "predictions.h5").is_file()):
        return
    if page.is_file() and page.stat().st_mtime_ns >= summary.stat().st_mtime_ns:
        return
    try:
        from deeph_zero.report.page import write_report

        write_report(out, page)
    except Exception as error:  # a page that cannot be made is no reason to lose a run
        line = " ".join(str(error).split()) or type(error).__name__
        reporter.warning(f"no report: {line[:200]}; the run is complete without it")
