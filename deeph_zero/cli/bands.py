"""``deeph-zero bands``: band structures and densities of states."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from deeph_zero.cli.crystals import say_other_kpoints
from deeph_zero.cli.options import (
    PREDICTING_CRYSTAL,
    InputName,
    Invocation,
    OutputPath,
    common_options,
    default_output,
    given,
    max_time_option,
    output_option,
    overwrite_option,
    predicting_crystal_options,
    reporter_for,
    runtime_values,
    setting,
)
from deeph_zero.errors import InputError
from deeph_zero.report.numbers import structure_name
from deeph_zero.settings.bands_config import BandsConfig
from deeph_zero.settings.base import option_name

if TYPE_CHECKING:
    from deeph_zero.host.reporting import Reporter
    from deeph_zero.host.runtime import Deadline
    from deeph_zero.jobs.bands import CrystalBands, Place

_OWN = ("path", "points", "dos", "width", "dos_spacing")


@click.command()
@click.argument(
    "labels", nargs=-1, required=True, metavar="LABELS... | MODEL STRUCTURES...", type=InputName()
)
@output_option
@setting(BandsConfig, "path", metavar="LETTERS")
@setting(BandsConfig, "points", metavar="N")
@setting(BandsConfig, "dos")
@setting(BandsConfig, "width", metavar="EH")
@setting(BandsConfig, "dos_spacing", metavar="1/BOHR")
@predicting_crystal_options
@click.option(
    "--plot",
    type=OutputPath(),
    default=None,
    metavar="PNG",
    help="Draw the bands; a number is added to the name where there are several crystals.",
)
@overwrite_option
@max_time_option
@common_options
@click.pass_obj
def bands(invocation: Invocation, **options: Any) -> int:
    """Levels of crystals along lines through the Brillouin zone.

    LABELS are files of `deeph-zero label`, `predict`, `project` or `convert` with real-space
    blocks: H and S at any k-point are sums over these, nothing is interpolated. A MODEL of crystals
    (run folder or model.safetensors) predicts the blocks of STRUCTURES without a Fock build; a run
    folder alone stands for its own predictions.

    \b
    Example:
      deeph-zero bands si.h5 --path GXWKG --plot si.png
      deeph-zero bands graphene.h5 gold.h5 -o all.h5 --dos
      deeph-zero bands graphene_run/ rippled.cif --path GMKG --dos --plot rippled.png
    """  # noqa: D301  (\b is click's mark)
    config = BandsConfig.parse(
        given(options, _OWN)
        | {
            "crystal": given(options, PREDICTING_CRYSTAL),
            "runtime": runtime_values(options, invocation.started),
        }
    )
    for name in ("width", "dos_spacing"):
        if options[name] is not None and not config.dos:
            option = "--" + name.replace("_", "-")
            raise InputError(f"{option}: expected --dos with it, got none; add it, or leave it out")
    return _Call(config, options, invocation.command).run()


class _Call:
    """One call of the command."""

    def __init__(self, config: BandsConfig, options: dict[str, Any], command: str) -> None:
        self._config, self._options, self._command = config, options, command
        self._model = _model_of(options["labels"])
        files = options["labels"][1 if self._model else 0 :] or options["labels"]
        self._files = [_predictions_of(name) for name in files] if not self._model else list(files)
        self._out = Path(options["output"] or default_output(files, "_bands.h5"))
        self._plot = None if options["plot"] is None else Path(options["plot"])

    def run(self) -> int:
        """Read, compute, draw, and say what came of it."""
        from deeph_zero.cli import show
        from deeph_zero.host import runtime
        from deeph_zero.host.files import to_json
        from deeph_zero.host.outputs import check_output, claim_output
        from deeph_zero.jobs.bands import run_bands, stored

        options = self._options
        self._check()
        place: dict[str, Any] = {
            "kind": "file", "overwrite": options["overwrite"], "inputs": options["labels"],
        }  # fmt: skip
        check_output(self._out, **place)
        reporter = reporter_for(self._config.runtime, options)
        settings = runtime.setup(self._config.runtime)
        if self._model is None:
            places, failed = stored(self._files), []
        else:
            places, failed = self._predicted(reporter, settings.deadline)
        self._check_pictures(len(places))
        with claim_output(self._out, **place):
            summary, found = run_bands(
                self._config,
                places,
                self._out,
                reporter=reporter,
                command=self._command,
                deadline=settings.deadline,
                failed=failed,
            )
        plots = self._draw(found)
        if options["as_json"]:
            click.echo(to_json(summary))
        else:
            reporter.table("bands, hartree", *_rows(summary["structures"]))
            written = " and ".join(str(p) for p in (self._out, *plots))
            reporter.message(f"written: {written}")
        show.require_success(
            summary | {"converged": summary["stopped_by"] is None},
            out=self._out,
            asked=len(found) + len(summary["failed"]) + bool(summary["stopped_by"]),
        )
        return 0

    def _predicted(
        self, reporter: "Reporter", deadline: "Deadline"
    ) -> "tuple[list[Place], list[dict[str, Any]]]":
        """Crystals that the model predicts, and frames that cannot be used."""
        from deeph_zero.cli import checks
        from deeph_zero.jobs.bands import predicted
        from deeph_zero.predict.crystal_model import load_crystal_model

        assert self._model is not None
        model = load_crystal_model(self._model)
        notes: dict[str, list[str]] = {}
        molecules, bad = checks.read_for_model(
            self._files, model, self._config, reporter, deadline, notes=notes
        )
        checks.say_notes(notes, reporter)
        say_other_kpoints(
            model, molecules, self._config.crystal, reporter.warning, certificate=False
        )
        places = predicted(model, molecules, model.settings(self._config.crystal))
        return places, [b.as_dict() for b in bad]

    def _check(self) -> None:
        """Files of matrices, and a name for a picture."""
        asked = sorted(self._config.crystal.model_fields_set)
        if self._model is None and asked:
            raise InputError(
                f"{option_name(asked[0])}: expected MODEL STRUCTURES with it, got files of "
                "matrices, which have their own; leave it out"
            )
        for name in [] if self._model else self._files:
            path = Path(name)
            if path.is_dir() and (path / "model.safetensors").is_file():
                raise InputError(
                    f"{name}: expected a run with predictions.h5, which is written at its end; go "
                    "on with deeph-zero fit ... --resume, or give structures behind it"
                )
            if path.is_dir():
                raise InputError(
                    f"{name}: expected a file of `deeph-zero label`, or a run folder with a model "
                    "and structures behind it, got another folder; check the path"
                )
            if not path.exists():
                raise InputError(
                    f"{name}: expected a file of `deeph-zero label`, there is none; check the path"
                )
            if path.is_file() and not _is_hdf5(path):
                raise InputError(
                    f"{name}: expected a file with real-space blocks (HDF5), got another; run "
                    f"`deeph-zero label {name}` first and give what it writes"
                )
        if self._plot is not None and self._plot.suffix.lower() != ".png":
            raise InputError(
                f"--plot: expected a name that ends with .png, got {str(self._plot)[-40:]!r}; "
                "write for example bands.png"
            )
        self._check_pictures(1)

    def _check_pictures(self, count: int) -> None:
        """Pictures can be written, and replace none unasked."""
        if self._plot is None:
            return
        if not self._plot.parent.is_dir():
            raise InputError(
                f"--plot: expected a folder {self._plot.parent}, there is none; make it first"
            )
        for path in [] if self._options["overwrite"] else self._pictures(count):
            if path.exists():
                raise InputError(
                    f"--plot: {path} is there already; choose another name, or replace it with "
                    "--overwrite"
                )

    def _pictures(self, count: int) -> list[Path]:
        """What was asked for, with a number each where there are several crystals."""
        assert self._plot is not None
        if count <= 1:
            return [self._plot]
        return [self._plot.with_stem(f"{self._plot.stem}_{k:04d}") for k in range(count)]

    def _draw(self, found: "list[CrystalBands]") -> list[Path]:
        from deeph_zero.report.bands import bands_figure
        from deeph_zero.report.figures import write_png

        if self._plot is None:
            return []
        paths = self._pictures(len(found))[: len(found)]
        for item, path in zip(found, paths, strict=True):
            figure = bands_figure(
                item.path.distances,
                item.energies.numpy(),
                (item.path.ticks, item.path.labels),
                item.entry["fermi"],
                item.dos,
                fermi_of_spins=item.entry.get("fermi_of_spins"),
            )
            write_png(figure, path)
        return paths


def _model_of(names: tuple[str, ...]) -> str | None:
    """The first name where it is a model's and structures stand behind it."""
    from deeph_zero.model_files.registry import given_by_name

    first = Path(names[0])
    is_model = first.name == "model.safetensors" or (first / "model.safetensors").is_file()
    return names[0] if (is_model or given_by_name(first)) and len(names) > 1 else None


def _predictions_of(name: str) -> str:
    """A run folder alone stands for its predictions."""
    path = Path(name)
    path = path.parent if path.name == "model.safetensors" else path
    found = path / "predictions.h5"
    return str(found) if path.is_dir() and found.is_file() else name


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _rows(entries: list[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and a line for each crystal."""
    rows = []
    for entry in entries:
        gap = entry["gap"]
        kind = "metal" if entry["metal"] else "spins overlap" if gap == 0.0 else None
        kind = kind or {True: "direct", False: "indirect"}.get(entry["direct"])
        values = (entry["fermi"], entry["vbm"], entry["cbm"], gap)
        rows.append(
            [
                structure_name(entry),
                entry["path"],
                *("-" if v is None else f"{v:.5f}" for v in values),
                kind or "-",
            ]
        )
    return ["structure", "path", "Fermi", "highest filled", "lowest empty", "gap", "kind"], rows
