"""``deeph-zero evaluate``: the error table of a model against reference data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich_click as click

from deeph_zero.cli.options import (
    InputName,
    Invocation,
    OutputPath,
    common_options,
    default_output,
    given,
    max_time_option,
    one_grid_option,
    overwrite_option,
    reporter_for,
    runtime_values,
    setting,
)
from deeph_zero.errors import InputError, argument
from deeph_zero.host.files import HDF5_SUFFIXES
from deeph_zero.settings.evaluate_config import EvaluateConfig

_FOR_MODELS = (
    "scf", "conv_tol", "max_cycle", "two_grids", "engine", "charge", "spin",
    "allow_close_contacts",
)  # fmt: skip
_OF_SCF = ("conv_tol", "max_cycle", "two_grids")


@click.command()
@click.argument("model", type=InputName())
@click.argument("labels", nargs=-1, required=True, metavar="LABELS...", type=InputName())
@click.option(
    "-o",
    "--output",
    type=OutputPath(),
    default=None,
    metavar="PATH",
    help="JSON file of the evaluation.",
)
@click.option(
    "--scf/--no-scf", default=None, help=str(EvaluateConfig.model_fields["scf"].description)
)
@setting(EvaluateConfig, "conv_tol", metavar="TOL")
@setting(EvaluateConfig, "max_cycle", metavar="N")
@one_grid_option
@setting(EvaluateConfig, "engine", metavar="local|ray[:ADDRESS]")
@setting(EvaluateConfig, "charge", metavar="N")
@setting(EvaluateConfig, "spin", metavar="2S")
@setting(EvaluateConfig, "allow_close_contacts")
@max_time_option
@overwrite_option
@common_options
@click.pass_obj
def evaluate(invocation: Invocation, **options: Any) -> int:
    """Compare MODEL with LABELS, files that `deeph-zero label` wrote.

    MODEL is a run folder, its model.safetensors, or a name that `deeph-zero models` lists.

    Structure files are labelled on the way. Prints and saves errors of the Fock matrix by block,
    of the rebuilt one, of orbital energies, energy, dipole moment and occupied space, and the SCF
    iterations that the prediction saves. A model of crystals is compared at the labels' k-points,
    up to a constant potential, with errors of bands and energies per atom.

    MODEL may be a file of matrices, too (.h5 of convert, label, predict or project), LABELS the
    same structures' of another calculation, program or model: H, S and levels are compared, in any
    basis, numerical orbitals included.

    \b
    Example:
      deeph-zero evaluate water_run/ labels.h5
      deeph-zero evaluate predicted.h5 siesta.h5
      deeph-zero evaluate water_run/ frames.xyz --json -o evaluation.json
    """  # noqa: D301  (\b is click's mark)
    config = EvaluateConfig.parse(
        given(options, _FOR_MODELS) | {"runtime": runtime_values(options, invocation.started)}
    )
    out = Path(options["output"] or default_output(options["labels"], "_eval.json"))
    if Path(options["model"]).suffix.lower() in HDF5_SUFFIXES:
        return _of_matrices(out, options, invocation)
    return _evaluate(config, out, options, invocation.command)


def _unused(config: EvaluateConfig, labels: Sequence[str]) -> list[str]:
    """Lines about settings of an SCF where none is done: labels are converged."""
    stated = [name for name in _OF_SCF if name in config.model_fields_set]
    done = config.scf or not all(Path(name).suffix.lower() in HDF5_SUFFIXES for name in labels)
    names = ["--one-grid" if name == "two_grids" else argument(name) for name in stated]
    return [
        f"{name}: expected --scf with it, got labels, which are converged, and --no-scf; it has no "
        "effect"
        for name in names
        if not done
    ]


def _of_matrices(out: Path, options: dict[str, Any], invocation: Invocation) -> int:
    from deeph_zero.cli import show
    from deeph_zero.cli.show_errors import show_matrix_errors
    from deeph_zero.host import runtime
    from deeph_zero.host.outputs import check_output, claim_output
    from deeph_zero.jobs.matrix_errors import run_matrix_errors

    stated = list(given(options, _FOR_MODELS))
    if stated or len(options["labels"]) != 1:
        got = argument(stated[0]) if stated else f"{len(options['labels'])} files"
        raise InputError(
            f"{options['model']}: expected one file to compare these matrices with and no option "
            f"of a model, got {got}; give a model, or leave it out"
        )
    config = EvaluateConfig.parse({"runtime": runtime_values(options, invocation.started)})
    place = _place(options)
    check_output(out, **place)
    reporter = reporter_for(config.runtime, options)
    settings = runtime.setup(config.runtime)
    with claim_output(out, **place), show.keeping(out, invocation.command):
        result = run_matrix_errors(
            options["model"],
            options["labels"][0],
            out,
            reporter=reporter,
            command=invocation.command,
            deadline=settings.deadline,
        )
    show_matrix_errors(result, reporter, as_json=options["as_json"], out=out)
    asked = len(result["structures"]) + len(result["failed"])
    _require_success(result, out, asked)
    return 0


def _place(options: dict[str, Any]) -> dict[str, Any]:
    """What is known of the output before it is claimed."""
    inputs = [*options["labels"], options["model"]]
    return {"kind": "json", "overwrite": options["overwrite"], "inputs": inputs}


def _evaluate(config: EvaluateConfig, out: Path, options: dict[str, Any], command: str) -> int:
    from deeph_zero.cli import checks, show
    from deeph_zero.cli.crystals import check_evaluating, say_other_grids
    from deeph_zero.cli.show_errors import show_errors
    from deeph_zero.data.crystal_labels import CrystalLabels
    from deeph_zero.data.labels import LabelStore
    from deeph_zero.host import runtime
    from deeph_zero.host.outputs import check_output, claim_output
    from deeph_zero.jobs.crystal_evaluate import usable_crystals
    from deeph_zero.jobs.evaluate import run_evaluate, usable
    from deeph_zero.model import CrystalModel, load_any

    place = _place(options)
    check_output(out, **place)
    reporter = reporter_for(config.runtime, options)
    settings = runtime.setup(config.runtime)
    _refuse_databases(options["labels"])
    model = load_any(options["model"], device=settings.device)
    notes: dict[str, list[str]] = {}
    molecules, bad = checks.read_for_model(
        options["labels"], model, config, reporter, settings.deadline, notes=notes
    )
    files = [name for name in options["labels"] if Path(name).suffix.lower() in HDF5_SUFFIXES]
    failed = [b.as_dict() for b in bad]
    if isinstance(model, CrystalModel):
        check_evaluating(config)
        labels = CrystalLabels(files) if files else None
        if labels is not None:
            molecules, failed = usable_crystals(molecules, failed, labels, model.settings())
    else:
        labels = LabelStore(files, skip_bad=True) if files else None
        molecules, failed = usable(molecules, failed, labels, model.method)
    checks.say_notes(notes, reporter)
    if isinstance(model, CrystalModel) and isinstance(labels, CrystalLabels):
        say_other_grids(model, molecules, labels, reporter.warning)
    for line in _unused(config, options["labels"]):
        reporter.warning(line)
    with claim_output(out, **place), show.keeping(out, command):
        result = run_evaluate(
            model,
            molecules,
            failed,
            out,
            config,
            labels=labels,
            settings=settings,
            reporter=reporter,
            command=command,
            model_path=options["model"],
            label_files=files,
        )
    show_errors(result, reporter, as_json=options["as_json"], out=out)
    _require_success(result, out, len(molecules))
    return 0


def _refuse_databases(names: tuple[str, ...]) -> None:
    """Refuse QH9 databases: their matrices would be ignored, their structures labelled again."""
    from deeph_zero.data.qh9 import is_qh9

    for name in names:
        if Path(name).suffix.lower() == ".db" and is_qh9(Path(name)):
            stem = Path(name).stem
            raise InputError(
                f"{name}: expected labels or structures, got a QH9 database; make labels of it "
                f"with `deeph-zero convert {name} {stem}.h5`"
            )


def _require_success(result: dict[str, Any], out: Path, asked: int) -> None:
    from deeph_zero.cli import show

    cure = "; run it again with more --max-time" if result["stopped_by"] == "max_time" else ""
    show.require_success(result, out=out, asked=asked, cure=cure)
