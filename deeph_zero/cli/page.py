"""The page ``docs/commands.md``, written from the commands themselves."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import rich_click as click

from deeph_zero.cli.main import COMMANDS, cli

_INTRO = """# Commands

`deeph-zero COMMAND --help` shows the same in a terminal. Exit codes: 0 done; 1 fell short of what
was asked (what there is is kept); 2 wrong input; 130 interrupted (143 by SIGTERM, 129 by SIGHUP),
the run is kept and `--resume` goes on with it. A first Ctrl-C in the last structure leaves nothing
out: a line says so, and the exit code is that of an undisturbed command. What Ctrl-C ends at a
terminal dies of the signal, which ends loops of a shell too ($? stays 130); where each command of
a loop has one structure, press it twice. Every error is one line: what was expected, what came,
what to do. Every setting of `train` is in [Settings of `train`](config.md).
"""


def document() -> str:
    """The whole page.

    Returns:
        Markdown; the same on every machine.
    """
    context = click.Context(cli, info_name="deeph-zero")
    parts = [_INTRO]
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts.append("\n".join(_section(command, click.Context(command, context, info_name=name))))
    return "\n".join(parts)


def examples(command: click.Command) -> list[str]:
    """Command lines of the example in a command's help.

    Args:
        command: The command.

    Returns:
        Lines that begin with ``deeph-zero``.
    """
    lines = inspect.cleandoc(command.help or "").splitlines()
    return [line.strip() for line in lines if line.strip().startswith("deeph-zero ")]


def _section(command: click.Command, context: click.Context) -> Iterator[str]:
    text = inspect.cleandoc(command.help or "").replace("\b", "").split("Example:")[0]
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
    arguments = command.collect_usage_pieces(context)
    yield f"## {context.info_name}\n"
    yield "\n\n".join(paragraphs) + "\n"
    yield "```text\n" + " ".join([context.command_path, *arguments]) + "\n```\n"
    yield "Example:\n\n```text\n" + "\n".join(examples(command)) + "\n```\n"
    yield "| option | value | meaning |\n|---|---|---|"
    for option in command.get_params(context):
        if isinstance(option, click.Option) and not option.hidden and option.name != "help":
            yield _row(option)
    yield ""


def _row(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag or option.count or not option.metavar else f"`{option.metavar}`"
    help_text = " ".join((option.help or "").split()).replace("[", r"\[")
    cells = (names, value, help_text)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


if __name__ == "__main__":
    page = Path(__file__).parents[2] / "docs" / "commands.md"
    page.write_text(document(), encoding="utf-8")
