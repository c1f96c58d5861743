"""``deeph-zero fit``: label-free training."""

import contextlib
import os
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from deeph_zero.cli.crystals import check_training_kind
from deeph_zero.cli.options import (
    TRAINING_CRYSTAL,
    Invocation,
    common_options,
    default_output,
    fit_options,
    given,
    method_options,
    method_values,
    output_option,
    overwrite_option,
    reporter_for,
    resume_option,
    runtime_values,
    structures_argument,
    training_crystal_options,
)
from deeph_zero.cli.report import report_run
from deeph_zero.errors import ComputationError, DeephZeroError, InputError
from deeph_zero.host.launch import Launch, launch
from deeph_zero.host.signals import saying
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig
from deeph_zero.settings.effects import idle_option, unused_settings

if TYPE_CHECKING:
    from deeph_zero.data.structures import BadFrame
    from deeph_zero.host.reporting import ConsoleReporter
    from deeph_zero.host.runtime import Deadline

FIT = (
    "loss", "epochs", "steps", "conv_tol_grad", "samples", "stream", "displace", "sampling",
    "temperature", "init", "skip_bad", "calibration", "memory_mb", "disk_mb",
    "jk_dtype", "workers",
)  # fmt: skip


@click.command()
@structures_argument
@output_option
@method_options
@training_crystal_options
@fit_options
@resume_option
@overwrite_option
@common_options
@click.pass_obj
def fit(invocation: Invocation, **options: Any) -> int:
    """Train a network on STRUCTURES without labels.

    One frame solves that molecule; many frames, or --samples displaced copies of them, give one
    model for all. The result is a folder with the model, a summary and the predictions. Structures
    with a cell and pbc are crystals: one run is of molecules or of crystals.

    \b
    Example:
      deeph-zero fit water.xyz
      deeph-zero fit frames.xyz -o run/ --xc pbe0 --basis def2-svp --max-time 1h
      deeph-zero fit graphene.cif --kmesh 6 6 1 --smearing 0.005 --samples 20 --displace 0.04
    """  # noqa: D301  (\b is click's mark)
    config = fit_config(options, invocation.started)
    out = Path(options["output"] or default_output(options["structures"], "_run"))
    return run_training(config, out, options, invocation.command)


def fit_config(options: dict[str, Any], started: float) -> FitConfig:
    """Settings from the options.

    Args:
        options: Options of the command; None where not given.
        started: When the command began.

    Returns:
        Checked settings.

    Raises:
        InputError: If a value is wrong or two options exclude each other.
    """
    if options["inputs"] is not None and options["init"] is not None:
        raise InputError(
            f"--inputs and --init exclude each other: {options['init']} has its own inputs; "
            "leave --inputs out"
        )
    config = FitConfig.parse(
        given(options, FIT)
        | {
            "data": {"train": options["structures"]}
            | given(options, ("validation", "allow_close_contacts")),
            "method": method_values(options),
            "crystal": given(options, TRAINING_CRYSTAL),
            "model": given(options, ("inputs",)),
            "runtime": runtime_values(options, started),
        }
    )
    idle = idle_option(config)
    if idle is not None:
        raise InputError(idle)
    return config


def run_training(config: FitConfig, out: Path, options: dict[str, Any], command: str) -> int:
    """Check everything, train, and show the result: what ``fit`` and ``train`` share.

    Args:
        config: Every setting; ``data.train`` has the structures.
        out: Run folder.
        options: ``resume``, ``overwrite``, ``as_json``, ``quiet``.
        command: Command line, for the record.

    Returns:
        Exit code.

    Raises:
        InputError: If something is wrong with the input; nothing was written then.
        ComputationError: If the run did not reach what was asked for.
    """
    started = launch()
    if started is not None and started.rank > 0:
        from deeph_zero.train.fit import follow

        follow()
        return 0
    with in_words_of(options.get("config")):
        return _run_training(_spread(config, started), out, options, command)


def _spread(config: FitConfig, started: Launch | None) -> FitConfig:
    """The settings with as many processes as torchrun started."""
    if started is None:
        return config
    if "devices" in config.model_fields_set and config.devices not in (1, started.size):
        raise InputError(
            f"training.devices: expected {started.size}, what torchrun started, got "
            f"{config.devices}; leave it out"
        )
    return FitConfig.parse(config.model_dump(exclude_unset=True) | {"devices": started.size})


def _run_training(config: FitConfig, out: Path, options: dict[str, Any], command: str) -> int:
    from deeph_zero.cli import checks, initial, show
    from deeph_zero.host import runtime
    from deeph_zero.host.outputs import check_output, claim_output

    place = {
        "kind": "run",
        "resume": options["resume"],
        "overwrite": options["overwrite"],
        "inputs": [*_files(config), *filter(None, [options.get("config")])],
    }
    check_output(out, **place)
    reporter = reporter_for(config.runtime, options)
    deadline = runtime.setup(config.runtime).deadline
    stated, (config, known) = config, initial.starting_from(config, reporter)
    molecules, bad = _read(config.data.train, config, deadline)
    if not config.skip_bad:
        checks.refuse_bad(bad)
    crystals = check_training_kind(stated, molecules)
    initial.check_kind(config.init, known, crystals=crystals)
    config = initial.with_elements(config, known, molecules)
    if not crystals:
        checks.check_room(config)
        checks.check_training_labels(config, molecules)
        if not (options["as_json"] or options["resume"]):
            initial.suggest(config, molecules, reporter)
    validation, left_out = _validation(config, molecules, deadline), [b.as_dict() for b in bad]
    run_fit = _engine(crystals)
    with claim_output(out, **place), _kept(out, command):
        _warn_of_unused(stated, options, reporter)
        if bad:
            reporter.warning(f"{len(bad)} bad frames left out, the first one {bad[0]}")
        summary = run_fit(
            config,
            molecules,
            left_out,
            out,
            resume=options["resume"],
            reporter=reporter,
            command=command,
            validation=validation,
        )
        report_run(out, reporter)
    show.show_summary(summary, reporter, as_json=options["as_json"], out=out)
    if not options["as_json"] and (out / "model.json").exists():
        reporter.message(f"next: deeph-zero predict {shlex.quote(str(out))} STRUCTURES")
    # frames left out on request are no failure; what failed later is
    failed = [entry for entry in summary.get("failed") or [] if entry not in left_out]
    cure = "; go on with --resume and more --steps or --max-time"
    show.require_success(dict(summary) | {"failed": failed}, out=out, cure=cure)
    return 0


def _engine(crystals: bool) -> Callable[..., dict[str, Any]]:
    if crystals:
        from deeph_zero.train.crystal_fit import run_crystal_fit

        return run_crystal_fit
    from deeph_zero.train.fit import run_fit

    return run_fit


def _read(
    structures: Sequence[str],
    config: FitConfig,
    deadline: "Deadline",
    *,
    elements: Collection[int] | None = None,
) -> "tuple[list[Molecule], list[BadFrame]]":
    from deeph_zero.cli import checks

    return checks.read_and_check(
        structures,
        config.solved,
        config.method.state,
        stated=config.method.model_fields_set,
        elements=elements,
        allow_close_contacts=config.data.allow_close_contacts,
        deadline=deadline,
        crystals=config,
    )


def _validation(
    config: FitConfig, molecules: Sequence[Molecule], deadline: "Deadline"
) -> list[Molecule]:
    """Structures of the file that measure, all of them usable; none if frames are kept out."""
    from deeph_zero.cli import checks

    path = config.data.validation
    if isinstance(path, float) and len(molecules) == 1:
        raise InputError(
            f"--validation: expected frames to keep {path:g} of, got one; give more, or a file"
        )
    if not isinstance(path, str):
        return []
    from deeph_zero.data.reading.state import log_warning

    if os.path.realpath(path) in map(os.path.realpath, config.data.train):
        log_warning(
            f"--validation {path} is trained on as well: its errors say nothing of other "
            "structures; name another file, or a fraction to keep out"
        )
    elements = {int(z) for molecule in molecules for z in molecule.numbers}
    found, bad = _read([path], config, deadline, elements=elements)
    if not config.skip_bad:
        checks.refuse_bad(bad)
    if {m.periodic for m in found} != {m.periodic for m in molecules}:
        raise InputError(
            f"--validation {path}: expected structures of the kind that is trained on, got "
            "molecules and crystals; give one kind"
        )
    return found


def _files(config: FitConfig) -> list[str]:
    more = [config.data.validation] if isinstance(config.data.validation, str) else []
    more += [config.init] if config.init else []
    return [*config.data.train, *config.data.labels, *more]


@contextlib.contextmanager
def in_words_of(source: str | None) -> Iterator[None]:
    """Call settings as the file calls them that sets them, and name it; None is no file."""
    try:
        yield
    except DeephZeroError as error:
        if source is None:
            raise
        raise type(error)(_its_words(source, str(error))) from error


def _its_words(source: str, line: str) -> str:
    """A line about settings with the file's name and its names for them."""
    from deeph_zero.settings.config_file import RunSettings, in_its_words

    context: Any = click.get_current_context()
    keep = {name for option in context.command.params for name in option.opts}
    text = in_its_words(line, keep=keep)
    about_it = re.split(r"[].]", text.removeprefix("["))[0] in RunSettings.model_fields
    return f"{source}: {text}" if about_it else text


def _warn_of_unused(
    config: FitConfig, options: dict[str, Any], reporter: "ConsoleReporter"
) -> None:
    source = options.get("config")
    for line in unused_settings(config, stated=source is None):
        reporter.warning(line if source is None else _its_words(source, line))


@contextlib.contextmanager
def _kept(out: Path, command: str) -> Iterator[None]:
    """Say what is left after a signal or a refusal of the disk, and how to go on."""
    from deeph_zero.cli import show

    def resumable() -> bool:
        return any((out / name).exists() for name in ("config.json", "checkpoints"))

    try:
        yield
    except ComputationError as error:
        if str(error).endswith("run it again") and resumable():
            raise type(error)(f"{error} with --resume") from error
        raise
    except KeyboardInterrupt as stop:
        if not resumable():
            raise
        text = f"; the run is kept, go on with: {show.resuming(command)}"
        raise saying(stop, text) from None
