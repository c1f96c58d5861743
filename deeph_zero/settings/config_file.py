"""The settings of a training run as a commented TOML file: read, written, described."""

import json
import math
import os
import re
import textwrap
import tomllib
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic.fields import FieldInfo

from deeph_zero.errors import InputError
from deeph_zero.host.documents import SMALL, read_document
from deeph_zero.host.one_line import quoted
from deeph_zero.host.shipped import is_name
from deeph_zero.molecule import SMILES_PREFIX
from deeph_zero.settings.base import Settings, expected, with_names
from deeph_zero.settings.config import (
    DataConfig,
    FitConfig,
    MethodConfig,
    ModelConfig,
    RuntimeConfig,
    TrainingConfig,
)
from deeph_zero.settings.crystal_config import TrainingCrystalConfig

CONFIG_TOML = "config.toml"
"""Name of the resolved settings in a run folder."""

_SECTIONS = ("data", "method", "crystal", "model", "runtime")
"""Those that the engine's settings have as well."""
_WIDTH = 96
_PATHS = (("data", "train"), ("data", "labels"), ("data", "validation"), ("training", "init"))
"""Settings that are paths, relative to the folder of the file."""


class RunSettings(Settings):
    """A training run in sections; each section's settings have their defaults."""

    data: DataConfig = DataConfig()
    method: MethodConfig = MethodConfig()
    crystal: TrainingCrystalConfig = TrainingCrystalConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    runtime: RuntimeConfig = RuntimeConfig()


def read_config(path: str | Path) -> dict[str, dict[str, Any]]:
    """Values of a settings file, checked, with paths relative to the working folder.

    Args:
        path: TOML file.

    Returns:
        Sections of the file with what it sets, for :func:`fit_settings`.

    Raises:
        InputError: One line with the file, and the line number or the key.
    """
    path = Path(path)
    values = _parse(path)
    try:
        _check_types(values)
        RunSettings.parse(values, named=".".join)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    for section, name in _PATHS:
        if values.get(section, {}).get(name):
            values[section][name] = _placed(values[section][name], path.parent)
    return values


def fit_settings(values: Mapping[str, Mapping[str, Any]]) -> FitConfig:
    """The engine's settings from sections.

    Args:
        values: As :func:`read_config` returns them, possibly with more.

    Returns:
        Checked settings.

    Raises:
        InputError: If a value is wrong; one line.
    """
    sections = RunSettings.parse(values, named=".".join)
    flat = {name: getattr(sections.training, name) for name in TrainingConfig.model_fields}
    rest = {name: getattr(sections, name) for name in _SECTIONS}
    return FitConfig.parse(flat | rest, named=_called)


def in_its_words(text: str, *, keep: Collection[str] = ()) -> str:
    """A message about options of ``deeph-zero fit`` in the words of a settings file.

    Args:
        text: The message.
        keep: Options to leave as they are, those of ``deeph-zero train``.

    Returns:
        "training.samples" in the place of "--samples".
    """
    return with_names(text, RunSettings, ".".join, keep=keep)


def _called(path: Sequence[str]) -> str:
    """The engine has the settings of training at its top level, the file in a section."""
    return ".".join(("training", *path) if path[0] in TrainingConfig.model_fields else path)


def sections_of(config: FitConfig) -> RunSettings:
    """The engine's settings in sections, with absolute paths.

    Args:
        config: Every setting.

    Returns:
        Settings from which :func:`fit_settings` makes the same run in any folder.
    """
    values: dict[str, Any] = {
        "data": config.data.model_dump(),
        "method": config.method,
        "crystal": config.crystal,
        "model": config.model,
        "training": {name: getattr(config, name) for name in TrainingConfig.model_fields},
        "runtime": config.runtime,
    }
    for section, name in _PATHS:
        if values[section][name]:
            values[section][name] = _placed(values[section][name], Path.cwd(), absolute=True)
    return RunSettings(**values)


def to_toml(settings: RunSettings) -> str:
    """A complete file: every setting with its description; what is not set is a comment.

    Args:
        settings: What to write.

    Returns:
        TOML that :func:`read_config` reads.
    """
    lines = ["# Settings of `deeph-zero train`. Paths are relative to the folder of this file."]
    for name in RunSettings.model_fields:
        section = getattr(settings, name)
        lines += ["", f"[{name}]", *_comment(str(type(section).__doc__).splitlines()[0])]
        for key, field in type(section).model_fields.items():
            if not field.exclude:
                lines += ["", *_setting(key, field, getattr(section, key))]
    return "\n".join(lines) + "\n"


def document() -> str:
    """The page ``docs/config.md``: the complete file with its defaults."""
    return f"""# Settings of `deeph-zero train`

`deeph-zero train CONFIG.toml` is the engine of `deeph-zero fit` with every setting in a file. A
setting that is left out has the default shown here; paths are relative to the folder of the file;
options on the command line win over it. A wrong key or value is one line that names file, key and
the nearest known key.

Every run, of `fit` too, keeps its resolved settings in `RUN/config.toml`:
`deeph-zero train RUN/config.toml -o other` gives the same run again. This page is what
`deeph-zero train --print-config` prints.

```toml
{to_toml(RunSettings())}```
"""


def _setting(key: str, field: FieldInfo, value: Any) -> Iterator[str]:
    accepts = expected(field)
    told = field.examples or accepts in ("a name", "true or false")
    yield from _comment(f"{field.description}{'' if told else f' ({accepts})'}")
    # what is not set has no value in TOML: the line shows how to set it
    yield f"# {key} =" if value is None else f"{key} = {_value(value)}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")


def _value(value: Any) -> str:
    """A value in TOML's notation."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, float):
        assert math.isfinite(value)
        return repr(value)
    return str(value) if isinstance(value, int) else _quoted(str(value))


def _quoted(text: str) -> str:
    """A basic string: quotes, backslashes and control characters are escaped."""
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m.group()):04x}", plain) + '"'


def _parse(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(read_document(path, largest=SMALL).decode("utf-8-sig"))
        json.dumps(values, default=str)  # hexadecimal numbers of any length, which nothing prints
    except FileNotFoundError:
        raise InputError(
            f"{path}: expected a settings file, there is none; check the path, or write one with "
            f"`deeph-zero train --print-config > {path.name}`"
        ) from None
    except IsADirectoryError:
        raise InputError(
            f"{path}: expected a settings file, this is a folder; give the file, such as "
            f"{path / CONFIG_TOML} of a run"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: expected TOML text in UTF-8, the content is binary or of another encoding; "
            "save it as UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        words = re.fullmatch(r"(.*?) \(at (?:line (\d+), column \d+|end of document)\)", str(error))
        message, line = words.groups() if words else (str(error), None)
        place = f"line {line}" if line else "the end"
        raise InputError(f"{path}: not TOML at {place} ({message}); correct it") from None
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # the parser's limits
        deep = isinstance(error, RecursionError)
        reason = "values nested too deep" if deep else "a number of very many digits"
        raise InputError(f"{path}: expected settings, got {reason}; correct it") from None
    return values


def _check_types(values: Mapping[str, Any]) -> None:
    """TOML has types: text is no number and true is no 1, whatever the command line takes."""
    for name, section in values.items():
        part = RunSettings.model_fields.get(name)
        if part is None or not isinstance(section, Mapping):
            continue
        fields = getattr(part.annotation, "model_fields", {})
        for key, value in section.items():
            if key in fields and fields[key].exclude:
                known = ", ".join(k for k, field in fields.items() if not field.exclude)
                raise InputError(f"unknown setting '{name}.{key}'; known are {known}")
            if key in fields and _wrong_type(fields[key], value):
                raise InputError(
                    f"{name}.{key}: expected {expected(fields[key])}, got {_shown(value)}"
                )


def _wrong_type(field: FieldInfo, value: Any) -> bool:
    """What pydantic would convert silently."""
    kinds = _kinds(field.annotation)
    if bool in kinds:
        return not isinstance(value, bool)
    if not kinds & {int, float}:
        return False
    # a time may be text, such as "10m"; its field says so in an example
    return isinstance(value, bool) or (isinstance(value, str) and not field.examples)


def _shown(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else quoted(value)


def _kinds(annotation: Any) -> set[Any]:
    """Plain types that an annotation accepts."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (types.UnionType, typing.Union):
        return {kind for part in args for kind in _kinds(part)}
    if origin is Annotated:
        return _kinds(args[0])
    if origin is Literal:
        return {type(item) for item in args}
    return {annotation}


def _placed(value: Any, folder: Path, *, absolute: bool = False) -> Any:
    """A path, or a list of them, seen from ``folder``."""
    if isinstance(value, list | tuple):
        return tuple(_placed(item, folder, absolute=absolute) for item in value)
    if isinstance(value, float):
        return value  # a fraction where a path could be
    if value.startswith(SMILES_PREFIX) or not value.strip():
        return value
    joined = folder / value
    if is_name(value) and not os.path.lexists(joined):
        return value  # a model that comes with the package
    return os.path.abspath(joined) if absolute else str(joined)  # noqa: PTH100 (keeps links)


if __name__ == "__main__":
    (Path(__file__).parents[2] / "docs" / "config.md").write_text(document(), encoding="utf-8")
