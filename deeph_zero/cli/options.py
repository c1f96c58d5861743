"""Command-line options made from the fields of the settings, so that each is described once."""

import dataclasses
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic
import rich_click as click

from deeph_zero.errors import InputError
from deeph_zero.settings.config import (
    DataConfig,
    FitConfig,
    LabelConfig,
    MethodConfig,
    ModelConfig,
    RuntimeConfig,
)
from deeph_zero.settings.crystal_config import (
    CrystalConfig,
    SmearedCrystalConfig,
    TrainingCrystalConfig,
)

if TYPE_CHECKING:
    from deeph_zero.host.reporting import ConsoleReporter

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
METHOD = (
    "basis", "xc", "auxbasis", "density_fit", "grid_level", "charge", "spin", "unrestricted",
    "break_symmetry", "two_grids",
)  # fmt: skip
LABEL = (
    "conv_tol", "conv_tol_grad", "max_cycle", "init_guess", "model", "smearing", "level_shift",
    "stability", "skip_bad", "workers", "engine", "allow_close_contacts",
)  # fmt: skip
CRYSTAL = ("kmesh", "kspacing", "pseudo", "ke_cutoff", "dimension")
TRAINING_CRYSTAL = (*CRYSTAL, "smearing", "strain", "supercell")
PREDICTING_CRYSTAL = ("kmesh", "kspacing", "ke_cutoff", "smearing", "dimension")
RUNTIME = ("device", "threads", "seed")


@dataclasses.dataclass
class Invocation:
    """What the entry point knows of this call.

    Attributes:
        command: The command line as typed, for the summary.
        started: ``time.monotonic()`` when it began.
    """

    command: str = "deeph-zero"
    started: float = dataclasses.field(default_factory=time.monotonic)


def setting(
    model: type[pydantic.BaseModel],
    name: str,
    *,
    flag: str = "",
    metavar: str = "",
    nargs: int = 1,
) -> Decorator:
    """The option of one field: help text and default come from the field.

    Values stay text until pydantic checks them, so that every bad value gives the same kind of
    sentence, and an option that was not given is None.

    Args:
        model: Settings.
        name: Field.
        flag: Option name, when it is not the field's; "--a/--no-a" for switches.
        metavar: What the help shows for the value ("" for a switch).
        nargs: Words of the value.

    Returns:
        A click decorator.
    """
    field = model.model_fields[name]
    text = str(field.description)
    if not metavar:
        plain = "--" + name.replace("_", "-")
        return click.option(
            flag or plain, name, is_flag=True, default=None, help=_with_default(text, field.default)
        )
    return click.option(
        flag or "--" + name.replace("_", "-"),
        name,
        type=str,
        nargs=nargs,
        metavar=metavar,
        default=None,
        help=_with_default(text, field.default),
    )


def _with_default(text: str, default: object) -> str:
    if default is None or default is False:
        return text
    return f"{text} (default: {'on' if default is True else default})"


def _together(options: Sequence[Decorator]) -> Decorator:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


class InputName(click.ParamType):
    """A file or folder to read; an empty name is a variable of the shell that was never set."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse a blank name: the current folder would be read in its place.

        Args:
            value: What was typed.
            param: The argument.
            ctx: Not used.

        Returns:
            The name.

        Raises:
            InputError: If it is blank.
        """
        del ctx
        if not value.strip():
            assert param is not None
            what = (param.metavar or str(param.name).upper()).rstrip(".")
            raise InputError(
                f"{what}: expected the name of a file or folder, got an empty one ({value!r}); "
                "name it, or leave it out"
            )
        return value


structures_argument = click.argument(
    "structures", nargs=-1, required=True, metavar="STRUCTURES...", type=InputName()
)


_LONGEST_PATH = 4095
"""Bytes, the limit of the system; Python would make folder by folder before it is told."""


class OutputPath(click.ParamType):
    """Where a result goes; an empty name is a variable of the shell that was never set."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse a blank name, and one that is longer than a path can be.

        Args:
            value: What was typed.
            param: Not used.
            ctx: Not used.

        Returns:
            The name.

        Raises:
            InputError: If it is one of them.
        """
        del param, ctx
        if not value.strip():
            raise InputError(f"-o: expected a path, got {value!r}; name one, or leave -o out")
        if len(value.encode("utf-8", "surrogateescape")) > _LONGEST_PATH:
            raise InputError(
                f"-o: expected a path of at most {_LONGEST_PATH} bytes, got {value[:40]!r}...; "
                "choose a shorter one"
            )
        return value


output_option = click.option(
    "-o", "--output", type=OutputPath(), default=None, metavar="PATH", help="Where the result goes."
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace a result that is already there."
)
resume_option = click.option(
    "--resume", is_flag=True, help="Go on with the run that is in the output folder."
)
resume_file_option = click.option(
    "--resume", is_flag=True, help="Go on with an output that was begun and not finished."
)
common_options = _together(
    [
        click.option(
            "--json", "as_json", is_flag=True, help="Print the summary as JSON on stdout."
        ),
        click.option(
            "-v", "--verbose", count=True, metavar="", help="More detail; tracebacks on errors."
        ),
        click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors."),
        setting(RuntimeConfig, "device", metavar="DEVICE"),
        setting(RuntimeConfig, "threads", metavar="N"),
        setting(RuntimeConfig, "seed", metavar="N"),
    ]
)
file_options = _together([resume_file_option, overwrite_option, common_options])
"""Options of commands that write one file, structure by structure."""
one_grid_option = click.option(
    "--one-grid",
    "two_grids",
    flag_value=False,
    type=bool,
    default=None,
    help="Iterate on the target grid alone: the same answer, more Fock builds.",
)
max_time_option = setting(RuntimeConfig, "max_time", metavar="TIME")
method_options = _together(
    [
        setting(MethodConfig, "basis", metavar="NAME"),
        setting(MethodConfig, "xc", metavar="NAME"),
        setting(MethodConfig, "charge", metavar="N"),
        setting(MethodConfig, "spin", metavar="2S"),
        setting(MethodConfig, "unrestricted"),
        setting(MethodConfig, "break_symmetry"),
        setting(MethodConfig, "grid_level", metavar="0-9"),
        setting(MethodConfig, "density_fit", flag="--density-fit/--no-density-fit"),
        setting(MethodConfig, "auxbasis", metavar="NAME"),
        one_grid_option,
    ]
)
fit_options = _together(
    [
        setting(FitConfig, "loss", metavar="LOSS"),
        setting(FitConfig, "epochs", metavar="N"),
        setting(FitConfig, "steps", metavar="N"),
        setting(FitConfig, "conv_tol_grad", flag="--tol", metavar="TOL"),
        setting(FitConfig, "samples", metavar="N"),
        setting(FitConfig, "stream"),
        setting(FitConfig, "displace", metavar="ANGSTROM"),
        setting(FitConfig, "sampling", metavar="displace|normal-modes"),
        setting(FitConfig, "temperature", metavar="KELVIN"),
        setting(FitConfig, "calibration", metavar="N"),
        setting(DataConfig, "validation", metavar="FILE|FRACTION"),
        setting(ModelConfig, "inputs", metavar="physics|geometry"),
        setting(FitConfig, "memory_mb", flag="--memory", metavar="MB"),
        setting(FitConfig, "disk_mb", flag="--disk", metavar="MB"),
        setting(FitConfig, "jk_dtype", metavar="float64|float32"),
        setting(FitConfig, "workers", metavar="N"),
        setting(FitConfig, "init", metavar="MODEL"),
        setting(FitConfig, "skip_bad"),
        setting(DataConfig, "allow_close_contacts"),
        max_time_option,
    ]
)
crystal_options = _together(
    [
        setting(CrystalConfig, "kmesh", metavar="N N N", nargs=3),
        setting(CrystalConfig, "kspacing", metavar="1/BOHR"),
        setting(CrystalConfig, "pseudo", metavar="NAME"),
        setting(CrystalConfig, "ke_cutoff", metavar="EH"),
        setting(CrystalConfig, "dimension", metavar="2|3"),
    ]
)
training_crystal_options = _together(
    [
        crystal_options,
        setting(TrainingCrystalConfig, "smearing", metavar="EH"),
        setting(TrainingCrystalConfig, "strain", metavar="STRAIN"),
        setting(TrainingCrystalConfig, "supercell", metavar="N N N", nargs=3),
    ]
)
predicting_crystal_options = _together(
    [
        setting(SmearedCrystalConfig, "kmesh", metavar="N N N", nargs=3),
        setting(SmearedCrystalConfig, "kspacing", metavar="1/BOHR"),
        setting(SmearedCrystalConfig, "ke_cutoff", metavar="EH"),
        setting(SmearedCrystalConfig, "smearing", metavar="EH"),
        setting(SmearedCrystalConfig, "dimension", metavar="2|3"),
    ]
)
label_options = _together(
    [
        setting(LabelConfig, "conv_tol", metavar="TOL"),
        setting(LabelConfig, "conv_tol_grad", metavar="TOL"),
        setting(LabelConfig, "max_cycle", metavar="N"),
        setting(LabelConfig, "init_guess", metavar="minao|atom|huckel|core"),
        setting(LabelConfig, "model", metavar="MODEL"),
        setting(LabelConfig, "smearing", metavar="EH"),
        setting(LabelConfig, "level_shift", metavar="EH"),
        setting(LabelConfig, "stability"),
        setting(LabelConfig, "skip_bad"),
        setting(LabelConfig, "allow_close_contacts"),
        setting(LabelConfig, "workers", metavar="N"),
        setting(LabelConfig, "engine", metavar="local|ray[:ADDRESS]"),
        max_time_option,
    ]
)


def method_values(options: Mapping[str, Any], names: Sequence[str] = METHOD) -> dict[str, Any]:
    """Values of :class:`MethodConfig`; a basis set in a file is read, so that it stays known.

    Args:
        options: Options of the command.
        names: Those to take.

    Returns:
        Plain values.

    Raises:
        InputError: If a file cannot be read or is no basis set.
    """
    values = given(options, names)
    for name in {"basis", "auxbasis"} & values.keys():
        values[name] = _read_if_file(values[name], name)
    return values


def _read_if_file(value: str, name: str) -> str:
    from deeph_zero.ao.basis_text import is_text, looks_like_path
    from deeph_zero.settings.basis_file import read_basis_file

    if is_text(value) or not (looks_like_path(value) or os.path.lexists(value)):
        return value
    if not looks_like_path(value):
        from deeph_zero.integrals.basis_sets import in_library

        if in_library(value):
            return value  # a file of this name is no reason to compute with another basis set
    try:
        return read_basis_file(value)
    except InputError as error:
        raise InputError(f"--{name}: {error}") from None


def given(options: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The options out of ``names`` that were given."""
    return {name: options[name] for name in names if options.get(name) is not None}


def runtime_values(options: Mapping[str, Any], started: float) -> dict[str, Any]:
    """Values of :class:`RuntimeConfig`.

    Args:
        options: Options of the command.
        started: When the command began.

    Returns:
        Plain values.

    Raises:
        InputError: If -v and -q are given together.
    """
    if options["verbose"] and options["quiet"]:
        raise InputError("-v and -q exclude each other; give one of them")
    values = given(options, (*RUNTIME, "max_time"))
    verbose = -1 if options["quiet"] else min(options["verbose"], 9)
    return values | {"verbose": verbose, "started": started}


def reporter_for(config: RuntimeConfig, options: Mapping[str, Any]) -> "ConsoleReporter":
    """Set the log up, and say where messages go.

    Args:
        config: How much is said.
        options: Options of the command, ``as_json`` and ``quiet`` among them.

    Returns:
        The reporter.
    """
    from deeph_zero.host.reporting import ConsoleReporter, configure_logging

    configure_logging(config.verbose)
    return ConsoleReporter(json=options["as_json"], quiet=options["quiet"])


def default_output(structures: Sequence[str], ending: str) -> Path:
    """``./<stem><ending>`` of the first structure file, or of the letters of a SMILES."""
    from deeph_zero.molecule import SMILES_PREFIX

    if structures[0].startswith(SMILES_PREFIX):
        letters = re.sub(r"[^A-Za-z0-9]+", "_", structures[0].removeprefix(SMILES_PREFIX))
        return Path((letters.strip("_")[:40] or "smiles") + ending)
    name = Path(structures[0]).name
    return Path((name.split(".")[0] or "out") + ending)
