"""``deeph-zero train``: the engine of ``fit`` with every option, from a settings file."""

from pathlib import Path
from typing import Any

import rich_click as click

from deeph_zero.cli.fit import in_words_of, run_training
from deeph_zero.cli.options import (
    InputName,
    Invocation,
    common_options,
    given,
    max_time_option,
    output_option,
    overwrite_option,
    resume_option,
    runtime_values,
    setting,
)
from deeph_zero.errors import InputError
from deeph_zero.settings.base import option_name
from deeph_zero.settings.config import FitConfig
from deeph_zero.settings.config_file import RunSettings, fit_settings, read_config, to_toml


@click.command()
@click.argument("config", required=False, metavar="CONFIG.toml", type=InputName())
@click.option("--print-config", is_flag=True, help="Print a complete commented file and stop.")
@output_option
@setting(FitConfig, "init", metavar="MODEL")
@max_time_option
@resume_option
@overwrite_option
@common_options
@click.pass_obj
def train(invocation: Invocation, **options: Any) -> int:
    """Train as CONFIG.toml says: label-free, supervised or mixed, fine-tuning, several processes.

    Options given here win over the file. The run keeps the resolved settings in config.toml, from
    which it can be repeated.

    \b
    Example:
      deeph-zero train --print-config > config.toml
      deeph-zero train config.toml -o run/
    """  # noqa: D301  (\b is click's mark)
    if options["config"] is None:
        if not options["print_config"]:
            raise InputError(
                "expected CONFIG.toml, got none; write one with `deeph-zero train --print-config`"
            )
        _refuse_beside(options)
        click.echo(to_toml(RunSettings()), nl=False)
        return 0
    values = read_config(options["config"])
    if options["print_config"]:
        _refuse_beside(options)
        click.echo(to_toml(RunSettings.parse(values)), nl=False)
        return 0
    with in_words_of(options["config"]):
        settings = train_config(values, options, invocation.started)
    if not settings.data.train:
        raise InputError(
            f"{options['config']}: data.train: expected structure files, got none; name them, as "
            'in train = ["frames.xyz"]'
        )
    out = Path(options["output"] or f"{Path(options['config']).stem}_run")
    return run_training(settings, out, options, invocation.command)


_OF_A_RUN = (
    "output", "init", "max_time", "resume", "overwrite", "as_json", "device", "threads", "seed"
)  # fmt: skip


def _refuse_beside(options: dict[str, Any]) -> None:
    """Refuse options of a run where there is none."""
    for name in _OF_A_RUN:
        if options[name] not in (None, False):
            option = {"output": "-o", "as_json": "--json"}.get(name) or option_name(name)
            raise InputError(
                f"{option}: expected no option of a run beside --print-config, which prints the "
                "file's settings and stops; leave it out"
            )


def train_config(
    values: dict[str, dict[str, Any]], options: dict[str, Any], started: float
) -> FitConfig:
    """Settings of the file, with what the command line says put over them.

    Args:
        values: Sections of the file.
        options: Options of the command; None where not given.
        started: When the command began.

    Returns:
        Checked settings.

    Raises:
        InputError: If an option is wrong.
    """
    over = runtime_values(options, started)
    if not (options["verbose"] or options["quiet"]):
        del over["verbose"]
    # one by one first: a wrong option is called by its name on the command line
    FitConfig.parse({"runtime": over} | given(options, ("init",)))
    merged = {name: dict(section) for name, section in values.items()}
    merged["runtime"] = merged.get("runtime", {}) | over
    merged["training"] = merged.get("training", {}) | given(options, ("init",))
    return fit_settings(merged)
