"""``deeph-zero convert``: public Fock-matrix databases to labels, and labels to their layout."""

from pathlib import Path
from typing import Any

import rich_click as click

from deeph_zero.cli.bulk import Bulk
from deeph_zero.cli.options import (
    Invocation,
    file_options,
    max_time_option,
    method_values,
    runtime_values,
    setting,
)
from deeph_zero.errors import InputError
from deeph_zero.settings.convert_config import ConvertConfig

_OWN = ("basis", "xc", "grid_level", "first", "agreement", "workers")


@click.command()
@click.argument("source", metavar="A", type=str)
@click.argument("target", metavar="B", type=str)
@setting(ConvertConfig, "first", metavar="N")
@setting(ConvertConfig, "basis", metavar="NAME")
@setting(ConvertConfig, "xc", metavar="NAME")
@setting(ConvertConfig, "grid_level", metavar="0-9")
@setting(ConvertConfig, "agreement", metavar="EH")
@max_time_option
@setting(ConvertConfig, "workers", metavar="N")
@file_options
@click.pass_obj
def convert(invocation: Invocation, **options: Any) -> int:
    """Convert the database A (SQLite in QH9's layout) to the labels B (HDF5), or labels to it.

    Every matrix is checked on the way in: its own density has to give it back, which settles AO
    order, basis and functional. B then serves `evaluate` and `train` as labels of `deeph-zero
    label` do.

    \b
    Example:
      deeph-zero convert QH9Stable.db qh9.h5 --first 1000 --workers 4
      deeph-zero convert labels.h5 labels.db
    """  # noqa: D301  (\b is click's mark)
    from deeph_zero.host.files import HDF5_SUFFIXES

    config = ConvertConfig.parse(
        method_values(options, _OWN) | {"runtime": runtime_values(options, invocation.started)}
    )
    source, target = Path(options["source"]), Path(options["target"])
    suffixes = source.suffix.lower(), target.suffix.lower()
    if suffixes[0] == ".db" and suffixes[1] in HDF5_SUFFIXES:
        return _import(config, source, target, options, invocation.command)
    if suffixes[0] in HDF5_SUFFIXES and suffixes[1] == ".db":
        return _export(config, source, target, options)
    raise InputError(
        f"expected a QH9 database (.db) and labels (.h5), in either order, got {source} and "
        f"{target}; rename one of them"
    )


def _import(
    config: ConvertConfig, source: Path, out: Path, options: dict[str, Any], command: str
) -> int:
    from deeph_zero.data.structures import read_structures
    from deeph_zero.integrals.libxc import describe
    from deeph_zero.jobs.convert import run_import

    bulk = Bulk(out, options, [source], command)
    reporter, settings = bulk.begin(config.runtime)
    describe(config.xc)
    _require_database(source)
    molecules, bad = read_structures(
        [source],
        limit=config.first,
        allow_close_contacts=True,
        expired=settings.deadline.expired,
    )
    if not molecules:
        raise InputError(str(bad[0]))

    def compute(failed: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
        return run_import(source, molecules, failed, out, config, **rest)

    return bulk.run(compute, molecules, bad, reporter)


def _require_database(source: Path) -> None:
    """A ``.db`` of another kind would be read by ASE, and have no matrices."""
    from deeph_zero.data.qh9 import Matrices
    from deeph_zero.data.sources import WholeFileError

    try:
        Matrices(source)
    except WholeFileError as error:
        raise InputError(f"{source}: {error}") from None


def _export(config: ConvertConfig, source: Path, out: Path, options: dict[str, Any]) -> int:
    from deeph_zero.host.files import to_json
    from deeph_zero.host.outputs import claim_output
    from deeph_zero.host.reporting import ConsoleReporter
    from deeph_zero.jobs.convert import run_export

    if options["resume"]:
        raise InputError("--resume: expected a database to read, got labels; leave it out")
    reporter = ConsoleReporter(json=options["as_json"], quiet=options["quiet"])
    with claim_output(out, kind="db", overwrite=options["overwrite"], inputs=[source]):
        count, methods = run_export(source, out, first=config.first)
    if methods != {f"{config.xc}/{config.basis}"}:
        reporter.warning(
            f"{out} has no place for the method: its readers need to be told "
            f"{' and '.join(sorted(methods))}"
        )
    if options["as_json"]:
        click.echo(to_json({"written": str(out), "n_structures": count}))
    else:
        reporter.message(f"written: {out} ({count} molecules)")
    return 0
