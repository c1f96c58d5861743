"""The page of commands: current, complete, and with examples that the commands accept."""

import shlex
from pathlib import Path

import pytest
import rich_click as click

from deeph_zero.cli.main import COMMANDS, cli
from deeph_zero.cli.page import document, examples

PAGE = Path(__file__).parents[2] / "docs/commands.md"


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def test_the_page_in_docs_is_current():
    assert PAGE.read_text("utf-8") == document(), "run python -m deeph_zero.cli.page"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_on_the_page(name):
    (section,) = [part for part in document().split("\n## ") if part.startswith(f"{name}\n")]
    options = [param for param in command(name).params if isinstance(param, click.Option)]
    assert len(options) >= 5
    for option in options:
        row = ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])
        assert f"| {row} |" in section


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_the_help_are_accepted(name):
    lines = examples(command(name))
    assert lines
    for line in lines:
        words = shlex.split(line.split(" > ")[0])
        assert words[1] == name
        # parses only; click raises on an unknown option or a missing argument
        command(name).make_context(name, words[2:])
