"""The command ``deeph-zero``: finds the subcommand, and turns every error into one line."""

import codecs
import contextlib
import difflib
import importlib
import io
import json
import os
import re
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence

import rich_click as click
from click.exceptions import Exit

from deeph_zero.cli import completion
from deeph_zero.cli.options import Invocation
from deeph_zero.cli.repeats import refuse_repeats
from deeph_zero.errors import DeephZeroError, InputError, words_of_the_command_line
from deeph_zero.host.one_line import LONGEST, one_line
from deeph_zero.host.signals import ending_like_ctrl_c, signal_of, word_of
from deeph_zero.host.version import __version__

# name -> module; the module is imported when the command (or the list of commands) is needed
COMMANDS = {
    "fit": "deeph_zero.cli.fit",
    "predict": "deeph_zero.cli.predict",
    "label": "deeph_zero.cli.label",
    "train": "deeph_zero.cli.train",
    "evaluate": "deeph_zero.cli.evaluate",
    "report": "deeph_zero.cli.report",
    "convert": "deeph_zero.cli.convert",
    "project": "deeph_zero.cli.project",
    "bands": "deeph_zero.cli.bands",
    "models": "deeph_zero.cli.models",
    "doctor": "deeph_zero.cli.doctor",
}

click.rich_click.TEXT_PARAGRAPH_LINEBREAKS = "\n\n"


class _Commands(click.RichGroup):
    """Subcommands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command.

        Args:
            ctx: Click's context.
            cmd_name: What was typed.

        Returns:
            The command.

        Raises:
            InputError: If there is none of that name.
        """
        del ctx
        if cmd_name not in COMMANDS:
            near = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            cure = f"did you mean {near[0]}?" if near else "see deeph-zero --help"
            raise InputError(f"expected one of {', '.join(COMMANDS)}, got {cmd_name!r}; {cure}")
        return getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and see that none of its options has two values.

        Args:
            ctx: Click's context.
            args: Name of the command and what follows.

        Returns:
            Name, command, and what follows.
        """
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None:
            refuse_repeats(command, ctx, rest)
        return name, command, rest


@click.command(
    cls=_Commands, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="deeph-zero")
def cli() -> None:
    """Kohn-Sham theory without labels.

    Train a network on its own self-consistency, predict Fock matrices that certify themselves,
    and finish them with SCF.

    \b
    Example:
      deeph-zero fit water.xyz
      deeph-zero predict water_run/ other.xyz --refine 1e-5
    """  # noqa: D301  (\b is click's mark)


def entry_point(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: Arguments without the program name; None means ``sys.argv``.

    Returns:
        0 success; 1 the computation did not reach what was asked; 2 wrong input; 130
        Ctrl-C, 143 SIGTERM, 129 SIGHUP.
    """
    # Spinning OpenMP threads make a shared machine four times slower (measured with two threads on
    # two busy cores) and gain nothing on matrices as small as ours; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    args = list(sys.argv[1:] if argv is None else argv)
    _print_anything()
    if os.environ.get(completion.VARIABLE):
        return completion.complete(cli, os.environ[completion.VARIABLE])
    verbose = sum(arg.count("v") for arg in args if re.fullmatch(r"-v+|--verbose", arg))
    try:
        with warnings.catch_warnings():
            if not verbose:
                warnings.simplefilter("ignore")  # libraries talk to developers
            with ending_like_ctrl_c(), words_of_the_command_line():
                code = _run(args)
        getattr(sys.stdout, "flush", int)()  # a shell may have closed it: None
    except BrokenPipeError:
        # the reader has gone; keep Python from complaining about it at exit
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt) as error:
        # wrong input is explained by its line; where it was found is for developers
        if verbose > isinstance(error, InputError | click.ClickException | KeyboardInterrupt):
            traceback.print_exc()
        text, code = explain(error)
        # the command to go on with has to be complete, it is copied
        longest = None if isinstance(error, KeyboardInterrupt) else LONGEST
        with contextlib.suppress(OSError):
            sys.stderr.write(one_line(f"error: {text}", longest=longest) + "\n")
    return code


def _print_anything() -> None:
    """Where the terminal's letters are not Unicode's, print others as numbers, as JSON has them."""
    codecs.register_error("as-json", _as_json)
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.encoding.startswith("utf"):
        sys.stdout.reconfigure(errors="as-json")


def _as_json(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    letters = json.dumps(error.object[error.start : error.end])
    return letters[1:-1], error.end


def _run(args: list[str]) -> int:
    for arg in args:
        if any("\ud800" <= character <= "\udfff" for character in arg):
            # neither HDF5 nor JSON could say where a result comes from
            raise InputError(f"{arg}: expected a name in UTF-8, got other bytes; rename the file")
    invocation = Invocation(command=shlex.join(["deeph-zero", *args]))
    try:
        with cli.make_context("deeph-zero", args, obj=invocation) as ctx:
            result = cli.invoke(ctx)
    except Exit as stop:  # after --help and --version
        return stop.exit_code
    return result if isinstance(result, int) else 0


def explain(error: BaseException) -> tuple[str, int]:
    """One line and the exit code for anything a command can raise.

    Args:
        error: What came.

    Returns:
        The sentence and the exit code.
    """
    if isinstance(error, DeephZeroError):
        return str(error), error.exit_code
    if isinstance(error, click.UsageError):
        return _usage(error), 2
    if isinstance(error, click.ClickException):
        return " ".join(error.format_message().split()), 2
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return str(error) or word_of(error), 128 + signal_of(error)
    return _unforeseen(error), 1


def _unforeseen(error: BaseException) -> str:
    """The sentence for what a machine refuses, or for a fault of ours."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        cure = "use a smaller basis, fewer structures at a time, or a machine with more memory"
        return f"out of memory{f' ({text[:120]})' if text else ''}; {cure}"
    kind, again = type(error).__name__, "run again with -v for the traceback"
    if isinstance(error, FileNotFoundError) and not error.filename and _is_nowhere():
        return "the working folder has been removed; change to one that exists and run it again"
    if isinstance(error, OSError) and error.strerror:
        place = error.filename or "standard output or a file"
        text = f"{place}: cannot be read or written ({error.strerror}); check space and permissions"
        return f"{text}, or {again}"
    return f"internal error: {kind}: {text[:200]}; {again}"


def _is_nowhere() -> bool:
    """Whether the working folder has gone."""
    try:
        os.getcwd()  # noqa: PTH109  (Path.cwd is the same)
    except FileNotFoundError:
        return True
    return False


def _usage(error: click.UsageError) -> str:
    """Click's usage errors in our words."""
    name = error.ctx.command_path if error.ctx else "deeph-zero"
    if isinstance(error, click.NoSuchOption):
        near = list(error.possibilities or [])
        if not near and error.ctx:
            known = [opt for p in error.ctx.command.params for opt in p.opts]
            near = difflib.get_close_matches(error.option_name, known, n=1)
        cure = f"did you mean {near[0]}?" if near else f"see {name} --help"
        return f"unknown option {error.option_name}; {cure}"
    message = " ".join(error.format_message().split()).rstrip(".")
    return f"{message[:1].lower()}{message[1:]}; see {name} --help"
