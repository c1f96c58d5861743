"""``deeph-zero label``: converged reference data from this package's own SCF."""

from pathlib import Path
from typing import Any

import rich_click as click

from deeph_zero.cli.options import (
    LABEL,
    METHOD,
    Invocation,
    common_options,
    default_output,
    given,
    label_options,
    method_options,
    output_option,
    overwrite_option,
    resume_file_option,
    runtime_values,
    structures_argument,
)
from deeph_zero.config import LabelConfig


@click.command()
@structures_argument
@output_option
@method_options
@label_options
@resume_file_option
@overwrite_option
@common_options
@click.pass_obj
def label(invocation: Invocation, **options: Any) -> int:
    """Converge the SCF of every frame of STRUCTURES and write the matrices.

    \b
    Example:
      deeph-zero label frames.xyz -o labels.h5 --xc pbe --basis def2-svp
    """  # noqa: D301  (\b is click's mark)
    config = LabelConfig.parse(
        given(options, LABEL)
        | {
            "method": given(options, METHOD),
            "runtime": runtime_values(options, invocation.started),
        }
    )
    out = Path(options["output"] or default_output(options["structures"], "_labels.h5"))
    return _label(config, out, options, invocation.command)


def _label(config: LabelConfig, out: Path, options: dict[str, Any], command: str) -> int:
    from deeph_zero import runtime
    from deeph_zero.cli import checks, show
    from deeph_zero.files import check_output, claim_output
    from deeph_zero.reporting import ConsoleReporter, configure_logging

    place = {
        "kind": "file",
        "resume": options["resume"],
        "overwrite": options["overwrite"],
        "inputs": options["structures"],
    }
    check_output(out, **place)
    configure_logging(config.runtime.verbose)
    reporter = ConsoleReporter(json=options["as_json"], quiet=options["quiet"])
    runtime.setup(config.runtime)
    molecules, bad = checks.read_and_check(options["structures"], config.method)
    if bad and config.skip_bad:
        reporter.warning(f"{len(bad)} bad frames left out, the first one {bad[0]}")
        bad = []
    from deeph_zero.predict.label import run_label

    with claim_output(out, **place), show.keeping(out):
        summary = run_label(
            config,
            molecules,
            [b.as_dict() for b in bad],
            out,
            reporter=reporter,
            command=command,
            resume=options["resume"],
        )
    show.show_summary(summary, reporter, as_json=options["as_json"], out=out)
    cure = "; go on with --resume" if summary["stopped_by"] == "max_time" else ""
    show.require_success(summary, out=out, asked=len(molecules), cure=cure)
    return 0
