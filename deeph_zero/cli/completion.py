"""Completion in shells: click's, with names of files where it knows nothing better."""

import click
from click.exceptions import ClickException
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class

from deeph_zero.errors import DeephZeroError

VARIABLE = "_DEEPH_ZERO_COMPLETE"
"""Where a shell says what it wants to know, as click names it."""


class _WithFiles(ShellComplete):
    """Structures, models and results are files: click's scripts leave those to the shell."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """What may come next.

        Args:
            args: Complete words before.
            incomplete: The beginning of the word.

        Returns:
            Names that fit; else a mark that the shell completes names of files.
        """
        found = super().get_completions(args, incomplete)
        return found or [CompletionItem(incomplete, type="file")]


def complete(command: click.Command, instruction: str) -> int:
    """Answer a shell: print the script that makes it ask, or what may come next.

    Args:
        command: The program.
        instruction: What the shell wants: ``bash_source``, ``zsh_complete``, ...

    Returns:
        Exit code: 1 where the instruction is none, or the line is no command yet.
    """
    shell, _, wanted = instruction.partition("_")
    kind = get_completion_class(shell)
    if kind is None or wanted not in {"source", "complete"}:
        return 1
    known = type(kind.__name__, (_WithFiles, kind), {})
    answering = known(command, {}, "deeph-zero", VARIABLE)
    try:
        click.echo(answering.source() if wanted == "source" else answering.complete())
    except (ClickException, DeephZeroError):
        return 1
    return 0
