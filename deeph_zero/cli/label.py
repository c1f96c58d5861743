"""``deeph-zero label``: converged reference data from this package's own SCF."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from deeph_zero.cli.bulk import Bulk
from deeph_zero.cli.options import (
    CRYSTAL,
    LABEL,
    Invocation,
    crystal_options,
    default_output,
    file_options,
    given,
    label_options,
    method_options,
    method_values,
    output_option,
    runtime_values,
    structures_argument,
)
from deeph_zero.settings.base import option_name
from deeph_zero.settings.config import LabelConfig
from deeph_zero.settings.effects import UNFITTED

if TYPE_CHECKING:
    from deeph_zero.model import Model


@click.command()
@structures_argument
@output_option
@method_options
@crystal_options
@label_options
@file_options
@click.pass_obj
def label(invocation: Invocation, **options: Any) -> int:
    """Converge the SCF of every frame of STRUCTURES and write the matrices.

    A structure with a cell and pbc is a crystal: FFT grid, GTH pseudopotentials, k-points, and
    gth-dzvp-molopt-sr where no basis set is named. It may stand beside molecules.

    \b
    Example:
      deeph-zero label frames.xyz -o labels.h5 --xc pbe --basis def2-svp
      deeph-zero label many.xyz -o labels.h5 --model run/ --conv-tol-grad 1e-5
      deeph-zero label silicon.cif -o si.h5 --kmesh 4 4 4
    """  # noqa: D301  (\b is click's mark)
    config = LabelConfig.parse(
        given(options, LABEL)
        | {
            "method": method_values(options),
            "crystal": given(options, CRYSTAL),
            "runtime": runtime_values(options, invocation.started),
        },
        named=_option,
    )
    out = Path(options["output"] or default_output(options["structures"], "_labels.h5"))
    return _label(config, out, options, invocation.command)


def _option(path: Sequence[str]) -> str:
    """What a setting is called here: the gradient's tolerance is --tol in ``fit`` only."""
    return "--conv-tol-grad" if path[-1] == "conv_tol_grad" else option_name(path[-1])


def _checked_model(config: LabelConfig) -> "Model | None":
    """The model that gives the starts, if it can, before any work."""
    from deeph_zero.model import load

    if config.model is None:
        return None
    model = load(config.model, device="cpu")
    model.check_starts(config.solved)
    return model


def _label(config: LabelConfig, out: Path, options: dict[str, Any], command: str) -> int:
    from deeph_zero.cli import checks
    from deeph_zero.jobs.label import run_label

    bulk = Bulk(out, options, options["structures"], command)
    reporter, settings = bulk.begin(config.runtime)
    model = _checked_model(config)
    notes: dict[str, list[str]] = {}
    molecules, bad = checks.read_and_check(
        options["structures"],
        config.solved,
        config.method.state,
        stated=config.method.model_fields_set,
        allow_close_contacts=config.allow_close_contacts,
        deadline=settings.deadline,
        crystals=config,
        notes=notes,
    )
    checks.check_kinds(config, molecules)
    checks.say_notes(notes, reporter)
    if config.method.auxbasis is not None and not config.method.density_fit:
        reporter.warning(f"--auxbasis: {UNFITTED}; it has no effect")
    if model is not None:
        checks.say_outside(model, molecules, reporter)
    if bad and config.skip_bad:
        reporter.warning(f"{len(bad)} bad frames left out, the first one {bad[0]}")
        bad = []

    def compute(failed: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
        return run_label(config, molecules, failed, out, **rest)

    return bulk.run(compute, molecules, bad, reporter)
