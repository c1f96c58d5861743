"""The base of all settings: strict parsing, and every error as one line."""

import difflib
import re
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import annotated_types
import pydantic
from pydantic.fields import FieldInfo

from deeph_zero.errors import InputError
from deeph_zero.host.one_line import quoted

_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}

SettingsT = TypeVar("SettingsT", bound="Settings")


class Settings(pydantic.BaseModel):
    """Base of all settings: frozen, no unknown names, no NaN."""

    model_config = pydantic.ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=False
    )

    @classmethod
    def parse(
        cls: type[SettingsT],
        values: Mapping[str, Any],
        *,
        named: "Callable[[Sequence[str]], str] | None" = None,
    ) -> SettingsT:
        """Build from plain (possibly nested) values.

        Args:
            values: Setting names and values; a section is a nested mapping.
            named: How to call a setting in a message, from its path; None calls it by its
                command-line option.

        Returns:
            The validated settings.

        Raises:
            InputError: One line naming the setting, what was expected and what came.
        """
        try:
            return cls.model_validate(dict(values))
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InputError(_one_line(cls, first, named)) from None


def _option(path: Sequence[str]) -> str:
    return option_name(path[-1])


def option_name(setting: str) -> str:
    """The command-line option that sets ``setting``."""
    names = {"conv_tol_grad": "tol", "memory_mb": "memory", "disk_mb": "disk", "verbose": "v"}
    names |= {"source_format": "from", "target_format": "to"}
    name = names.get(setting, setting).replace("_", "-")
    return f"-{name}" if len(name) == 1 else f"--{name}"


def _field(model: type[pydantic.BaseModel], path: list[str]) -> FieldInfo | None:
    """The field at a dotted path, or None when the path names none."""
    info = model.model_fields.get(path[0]) if path else None
    if info is None or len(path) == 1:
        return info
    inner = info.annotation
    if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
        return _field(inner, path[1:])
    return None


def _bounds(info: FieldInfo) -> str:
    """Allowed range of a number, in words ("" when there is none)."""
    words: dict[type, str] = {}
    for item in info.metadata:
        if isinstance(item, annotated_types.Ge):
            words[type(item)] = f"from {item.ge}"
        elif isinstance(item, annotated_types.Gt):
            words[type(item)] = f"above {item.gt}"
        elif isinstance(item, annotated_types.Le):
            words[type(item)] = f"at most {item.le}"
        elif isinstance(item, annotated_types.Lt):
            words[type(item)] = f"below {item.lt}"
    text = " and ".join(words.values())
    if words.keys() == {annotated_types.Ge}:
        text += " up"
    if words.keys() == {annotated_types.Ge, annotated_types.Le}:
        text = text.replace(" and at most", " to")
    return f" {text}" if text else ""


def expected(info: FieldInfo) -> str:
    """What a setting accepts, in words."""
    if info.examples:
        return str(info.examples[0])
    kind: Any = info.annotation
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(a for a in typing.get_args(kind) if a is not type(None))
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return _list(typing.get_args(kind))
    if kind is str:
        return "a name"
    return _TYPE_NAMES.get(kind, "a section of settings") + _bounds(info)


def _list(items: Sequence[Any]) -> str:
    """A tuple in words: "a list of names", "a list of 3 numbers"."""
    kind = items[0]
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    word = {str: "names", int: "whole numbers"}.get(kind, "numbers")
    return f"a list of {word}" if items[-1] is Ellipsis else f"a list of {len(items)} {word}"


def _nearest(model: type[pydantic.BaseModel], path: list[str]) -> str:
    """What an unknown name may have meant: a neighbour, else a setting of another section."""
    section = _field(model, path[:-1])
    inner: Any = section.annotation if section else model
    known = [name for name, info in inner.model_fields.items() if not info.exclude]
    near = difflib.get_close_matches(path[-1], known, n=1)
    if not near:
        elsewhere = {
            name: f"{part}.{name}"
            for part, info in model.model_fields.items()
            for name, field in getattr(info.annotation, "model_fields", {}).items()
            if not field.exclude
        }
        near = [elsewhere[n] for n in difflib.get_close_matches(path[-1], elsewhere, n=1)]
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"


def _one_line(
    model: type[pydantic.BaseModel],
    error: Any,
    renamed: Callable[[Sequence[str]], str] | None,
) -> str:
    """Turn one pydantic error into our sentence."""
    named = renamed or _option
    path = [str(part) for part in error["loc"]]
    message = str(error["msg"]).removeprefix("Value error, ")
    if not path:
        return with_names(message, model, renamed) if renamed else message
    if error["type"] == "extra_forbidden":
        return f"unknown setting {'.'.join(path)!r}; {_nearest(model, path)}"
    info = _field(model, path)
    if error["type"] == "value_error" and info and expected(info) == "a section of settings":
        # about settings that do not go together
        return with_names(message, model, renamed) if renamed else message
    if error["type"] == "value_error" and ", got " in message:
        return f"{named(path)}: {message}"
    while info is None and path:
        path = path[:-1]
        info = _field(model, path)
    accepts = expected(info) if info else "a valid value"
    value = error.get("input")
    near = difflib.get_close_matches(value, re.split(r",? ", accepts), 1) if _text(value) else []
    hint = f"; did you mean {near[0]}?" if near and accepts.startswith("one of") else ""
    if accepts.startswith("a list of"):
        hint = "; write [..., ...]"
    elif accepts == "a section of settings":
        hint = f"; write [{named(path)}]"
    elif accepts == "a name":
        example = info.default if info and isinstance(info.default, str) else None
        hint = f"; for example {example}" if example else "; name one, or leave it out"
    return f"{named(path)}: expected {accepts}, got {quoted(value)}{hint}"


def with_names(
    text: str,
    model: type[pydantic.BaseModel],
    named: Callable[[Sequence[str]], str],
    *,
    keep: Collection[str] = (),
) -> str:
    """A message about command-line options in the words of another place that sets them.

    Args:
        text: The message, in which settings are called by their options.
        model: The settings, with sections.
        named: How a setting is called, from its path.
        keep: Options to leave as they are.

    Returns:
        The message with every other option renamed.
    """
    paths: dict[str, str] = {}
    for name, info in model.model_fields.items():
        inner = getattr(info.annotation, "model_fields", None)
        for path in [[name]] if inner is None else [[name, part] for part in inner]:
            paths.setdefault(_option(path), named(path))
    switched_off = {f"--no-{key[2:]}": f"{value} = false" for key, value in paths.items()}
    known = {k: v for k, v in (paths | switched_off).items() if k not in keep}
    return re.sub(r"(?<![\w-])--?[a-z][a-z-]*", lambda m: known.get(m[0], m[0]), text)


def _text(value: object) -> typing.TypeGuard[str]:
    return isinstance(value, str)
