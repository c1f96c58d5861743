"""``deeph-zero convert``: Hamiltonian files of other programs in and out."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from deeph_zero.cli.bulk import Bulk
from deeph_zero.cli.options import (
    InputName,
    Invocation,
    file_options,
    max_time_option,
    method_values,
    reporter_for,
    runtime_values,
    setting,
)
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.report.numbers import plural
from deeph_zero.settings.convert_config import ConvertConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from deeph_zero.data.formats.protocol import Record
    from deeph_zero.data.formats.transfer import Transfer
    from deeph_zero.jobs.convert import Opened

_OWN = (
    "basis", "xc", "grid_level", "first", "agreement", "workers", "source_format", "target_format",
    "energy_unit", "mesh",
)  # fmt: skip


@click.command()
@click.argument("source", metavar="A", type=InputName())
@click.argument("target", metavar="B", type=InputName())
@setting(ConvertConfig, "source_format", flag="--from", metavar="FORMAT")
@setting(ConvertConfig, "target_format", flag="--to", metavar="FORMAT")
@setting(ConvertConfig, "first", metavar="N")
@setting(ConvertConfig, "energy_unit", metavar="UNIT")
@setting(ConvertConfig, "basis", metavar="NAME")
@setting(ConvertConfig, "xc", metavar="NAME")
@setting(ConvertConfig, "grid_level", metavar="0-9")
@setting(ConvertConfig, "agreement", metavar="EH")
@setting(ConvertConfig, "mesh", metavar="N N N", nargs=3)
@max_time_option
@setting(ConvertConfig, "workers", metavar="N")
@file_options
@click.pass_obj
def convert(invocation: Invocation, **options: Any) -> int:
    """Convert the Hamiltonian data A of one program to the format B of another.

    A is known by what it holds, B by its name: .h5 labels, .db QH9, a folder DeepH; --to asks for
    another. Matrices of a Gaussian basis become labels for `train` and `evaluate`: the overlap has
    to be that of --basis, and each matrix has to be given back by its own density, which settles
    AO order, basis and functional. Matrices of numerical orbitals (without --basis) are kept as
    real-space blocks, their AO order proven by their overlaps.

    \b
    Example:
      deeph-zero convert QH9Stable.db qh9.h5 --first 1000 --workers 4
      deeph-zero convert labels.h5 labels.db
      deeph-zero convert siesta.HSX deeph_folder
      deeph-zero convert deeph_folder old_folder --to deeph-legacy
    """  # noqa: D301  (\b is click's mark)
    config = ConvertConfig.parse(
        method_values(options, _OWN) | {"runtime": runtime_values(options, invocation.started)}
    )
    return _Call(config, options, invocation.command).run()


class _Call:
    """One call of the command."""

    def __init__(self, config: ConvertConfig, options: dict[str, Any], command: str) -> None:
        self._config, self._options, self._command = config, options, command
        self._source, self._out = Path(options["source"]), Path(options["target"])
        self._warnings = list[str]()

    def run(self) -> int:
        """Find out what is wanted, and do it."""
        from deeph_zero.data.formats.registry import FORMATS, recognise, target_of
        from deeph_zero.jobs.convert import Opened

        target = self._config.target_format or target_of(self._out)
        try:
            name = self._config.source_format or recognise(self._source)
        except InputError as error:
            where = f"{self._source}: "
            raise InputError(where + str(error).removeprefix(where)) from None
        stated = self._options["basis"] is not None
        opened = Opened(self._source, name, self._config.basis, stated, self._config.energy_unit)
        known_basis = FORMATS[name].gaussian or stated
        if self._config.mesh is not None and target != "cube":
            raise InputError(
                f"--mesh: expected the cube of a crystal (.cube), got {name} to {target}; leave it "
                "out"
            )
        read = FORMATS[name].gaussian or name == "deeptb" or target == "labels"
        if stated and (name == "labels" or not read):
            self._warnings.append(
                f"--basis: expected Gaussians of a file that does not name them, got {name} to "
                f"{target}, where nothing asks for a basis; it has no effect"
            )
        crystal = stated and target == "labels" and self._crystals(opened)
        if target == "labels" and known_basis and name != "labels" and not crystal:
            return self._import(opened)
        self._refuse_unused(name, target)
        return self._transfer(opened, target, in_basis=self._config.basis if crystal else None)

    def _crystals(self, opened: "Opened") -> bool:
        """Whether the first structure is a crystal, whose matrices stay blocks."""
        from deeph_zero.data.formats.registry import FORMATS

        if FORMATS[opened.name].gaussian or opened.name == "labels":
            return False
        try:
            return opened.source().structure(0).lattice is not None
        except InputError:
            return False  # said where it is read

    def _import(self, opened: "Opened") -> int:
        """Matrices of a Gaussian basis become labels."""
        from deeph_zero.data.structures import BadFrame
        from deeph_zero.integrals.libxc import describe
        from deeph_zero.jobs.convert import molecules_of, run_import

        bulk = Bulk(self._out, self._options, [self._source], self._command)
        reporter, settings = bulk.begin(self._config.runtime)
        describe(self._config.xc)
        expired = settings.deadline.expired
        molecules, failed = molecules_of(opened, self._config.first, expired)
        bad = [BadFrame(**entry) for entry in failed]
        if not molecules:
            raise InputError(str(bad[0]))

        def compute(failed: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
            return run_import(opened, molecules, failed, self._out, self._config, **rest)

        return bulk.run(compute, molecules, bad, reporter)

    def _refuse_unused(self, name: str, target: str) -> None:
        """Options that would be dropped in silence."""
        if self._options["resume"]:
            raise InputError(
                "--resume: expected matrices of a Gaussian basis to check one by one, got "
                f"{name} to {target}, which is done at once; leave it out"
            )
        for option in ("xc", "grid_level", "agreement", "workers"):
            if self._options[option] is not None:
                raise InputError(
                    f"--{option.replace('_', '-')}: expected matrices of a Gaussian basis that "
                    f"become labels, got {name} to {target}; leave it out"
                )

    def _completion(self, target: str, in_basis: str | None) -> "Callable[[Record], Record] | None":
        """What is done with each structure on the way."""
        from deeph_zero.data.formats.pyscf_files import on_mesh
        from deeph_zero.data.formats.registry import FORMATS
        from deeph_zero.jobs.convert import with_overlap
        from deeph_zero.jobs.convert_crystals import in_gaussians

        if self._config.mesh is not None:
            return functools.partial(on_mesh, mesh=self._config.mesh)
        if in_basis is not None:
            return functools.partial(in_gaussians, basis=in_basis)
        return with_overlap if FORMATS[target].takes_overlap else None

    def _transfer(self, opened: "Opened", target: str, in_basis: str | None = None) -> int:
        from deeph_zero.data.formats.registry import FORMATS
        from deeph_zero.data.formats.transfer import transfer
        from deeph_zero.host import runtime
        from deeph_zero.host.files import to_json
        from deeph_zero.host.outputs import check_apart, claim_output

        options, out = self._options, self._out
        reporter = reporter_for(self._config.runtime, options)
        for line in self._warnings:
            reporter.warning(line)
        check_apart([("B", out)], [self._source])
        source = opened.source()
        expired = runtime.setup(self._config.runtime).deadline.expired

        def work() -> "Transfer":
            return transfer(
                source,
                self._source,
                out,
                formats=(opened.name, target),
                first=self._config.first,
                overwrite=options["overwrite"],
                say=reporter.warning,
                expired=expired,
                complete=self._completion(target, in_basis),
            )

        if FORMATS[target].folder:
            done = work()
        else:
            kind = "file" if target == "labels" else "other"
            with claim_output(
                out, kind=kind, overwrite=options["overwrite"], inputs=[self._source]
            ):
                done = work()
        if done.methods and not FORMATS[target].says_method:
            reporter.warning(
                f"{out} has no place for the method: its readers need to be told "
                f"{' and '.join(sorted(done.methods))}"
            )
        if options["as_json"]:
            click.echo(to_json(done.summary(out)))
        else:
            reporter.message(f"written: {out} ({plural(done.written, 'structure')})")
        if done.stopped_by:
            raise ComputationError(
                f"the time limit ended after {plural(done.written, 'structure')}; what is "
                f"done is in {out}; allow more --max-time"
            )
        if done.failed:
            raise ComputationError(
                f"{len(done.failed)} of {done.written + len(done.failed)} structures failed; {out} "
                "holds the others"
            )
        return 0
