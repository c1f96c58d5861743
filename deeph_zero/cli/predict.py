"""``deeph-zero predict``: Fock matrices, properties and certificates from a trained model."""

import shlex
from pathlib import Path
from typing import Any

import rich_click as click

from deeph_zero.cli.bulk import Bulk
from deeph_zero.cli.crystals import check_predicting, say_other_kpoints
from deeph_zero.cli.options import (
    PREDICTING_CRYSTAL,
    InputName,
    Invocation,
    default_output,
    file_options,
    given,
    max_time_option,
    one_grid_option,
    output_option,
    predicting_crystal_options,
    runtime_values,
    setting,
    structures_argument,
)
from deeph_zero.errors import InputError
from deeph_zero.settings.config import PredictConfig
from deeph_zero.settings.effects import unused_in_prediction

EXTRAS = (
    "refine", "forces", "response", "compare_start", "chkfile", "molden", "charge", "spin",
    "workers", "engine", "allow_close_contacts",
    "two_grids",
)  # fmt: skip


@click.command()
@click.argument("model", type=InputName())
@structures_argument
@output_option
@setting(PredictConfig, "refine", metavar="TOL")
@setting(PredictConfig, "forces")
@setting(PredictConfig, "response")
@setting(PredictConfig, "compare_start")
@setting(PredictConfig, "chkfile", metavar="PATH")
@setting(PredictConfig, "molden", metavar="PATH")
@click.option(
    "--cube",
    multiple=True,
    metavar="NAME",
    help=str(PredictConfig.model_fields["cube"].description),
)
@click.option("--no-certificate", is_flag=True, help="Network only: no Fock build, no energy.")
@click.option("--cheap-estimate", is_flag=True, help="Uncoupled error estimate: no response build.")
@setting(PredictConfig, "charge", metavar="N")
@setting(PredictConfig, "spin", metavar="2S")
@setting(PredictConfig, "allow_close_contacts")
@predicting_crystal_options
@one_grid_option
@max_time_option
@setting(PredictConfig, "workers", metavar="N")
@setting(PredictConfig, "engine", metavar="local|ray[:ADDRESS]")
@file_options
@click.pass_obj
def predict(invocation: Invocation, **options: Any) -> int:
    """Predict STRUCTURES with MODEL: a run folder, its model.safetensors, or a name.

    `deeph-zero models` lists the names of models that come with the package.

    Writes Fock, overlap and density matrices, orbital energies and a certificate to an HDF5 file
    and the summary to a JSON file beside it. --refine finishes each prediction with SCF.

    \b
    Example:
      deeph-zero predict water_run/ frames.xyz -o out.h5
      deeph-zero predict organic-pbe caffeine.xyz
      deeph-zero predict water_run/ frames.xyz --refine 1e-5 --json
      deeph-zero predict water_run/ many.xyz --workers 4 --resume
      deeph-zero predict water_run/ water.xyz --forces --molden water.molden --cube homo
      deeph-zero predict water_run/ water.xyz --refine 1e-7 --response
      deeph-zero predict graphene_run/ rippled.cif --kmesh 2 2 1
    """  # noqa: D301  (\b is click's mark)
    if options["no_certificate"] and options["cheap_estimate"]:
        raise InputError("--no-certificate and --cheap-estimate exclude each other; give one")
    config = PredictConfig.parse(
        given(options, EXTRAS)
        | {
            "cube": options["cube"],
            "crystal": given(options, PREDICTING_CRYSTAL),
            "certificate": not options["no_certificate"],
            "coupled": not options["cheap_estimate"],
            "runtime": runtime_values(options, invocation.started),
        }
    )
    out = Path(options["output"] or default_output(options["structures"], "_pred.h5"))
    return _predict(config, out, options, invocation.command)


def _predict(config: PredictConfig, out: Path, options: dict[str, Any], command: str) -> int:
    from deeph_zero.cli import checks
    from deeph_zero.jobs import export
    from deeph_zero.jobs.predict import run_predict
    from deeph_zero.model import CrystalModel, load_any

    bulk = Bulk(out, options, [*options["structures"], options["model"]], command)
    reporter, runtime = bulk.begin(config.runtime)
    # the model first: what a structure needs depends on it
    model = load_any(options["model"], device=runtime.device)
    check_predicting(config, crystals=isinstance(model, CrystalModel))
    notes: dict[str, list[str]] = {}
    molecules, bad = checks.read_for_model(
        options["structures"], model, config, reporter, runtime.deadline, notes=notes
    )
    if "spin-density" in config.cube and not (
        model.method.unrestricted or any(molecule.spin for molecule in molecules)
    ):
        raise InputError(
            "--cube spin-density: expected an open shell among the structures, got closed shells "
            "only; ask for --cube density"
        )
    again = options["overwrite"] or options["resume"]
    export.check(config, out, len(molecules) + len(bad), overwrite=again, inputs=bulk.inputs)
    checks.say_notes(notes, reporter)
    if isinstance(model, CrystalModel):
        say_other_kpoints(
            model, molecules, config.crystal, reporter.warning, certificate=config.certificate
        )
    for line in unused_in_prediction(config):
        reporter.warning(line)

    def compute(failed: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
        return run_predict(options["model"], molecules, failed, out, config, model=model, **rest)

    code = bulk.run(compute, molecules, bad, reporter)
    if not options["as_json"]:
        reporter.message(f"next: deeph-zero report {shlex.quote(str(out))}")
    return code
