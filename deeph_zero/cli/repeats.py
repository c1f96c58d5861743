"""Refuses an option that is given twice with different values: one of them would be dropped."""

from collections.abc import Sequence
from typing import Any

import rich_click as click

from deeph_zero.errors import InputError


class _KeepingAll:
    """Stands in for click's parser while options register: every value is kept, not the last."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser

    def add_option(self, *, action: str, **rest: Any) -> None:
        """Register, with the action that appends in the place of the one that replaces."""
        self._parser.add_option(action=action.replace("store", "append"), **rest)


def refuse_repeats(command: click.Command, parent: click.Context, args: Sequence[str]) -> None:
    """Look for options with more than one value among the arguments of a command.

    Args:
        command: The command.
        parent: Context of the program.
        args: What stands behind the command's name.

    Raises:
        InputError: If an option that takes one value has several, or a switch is on and off. The
            same value twice is taken: nothing is lost.
    """
    context = click.Context(command, parent, info_name=command.name)
    parser = command.make_parser(context)
    options = [p for p in command.params if isinstance(p, click.Option) and not p.multiple]
    for option in options:
        option.add_to_parser(_KeepingAll(parser), context)  # pyright: ignore[reportArgumentType]
    try:
        values, _, _ = parser.parse_args(list(args))
    except click.UsageError:
        return  # the command itself will say it
    if values.get("help"):
        return
    for option in options:
        found = values.get(option.name or "")
        distinct = list(dict.fromkeys(found)) if isinstance(found, list) else []
        if len(distinct) > 1:
            raise InputError(_refusal(option, distinct))


def _refusal(option: click.Option, values: list[Any]) -> str:
    name = option.opts[0]
    if option.secondary_opts:
        return f"{name} and {option.secondary_opts[0]} exclude each other; give one of them"
    words = [repr(" ".join(v) if isinstance(v, tuple) else v) for v in values]
    return f"{name}: expected one value, got {', '.join(words[:-1])} and {words[-1]}; give one"
