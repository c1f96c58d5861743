"""Types of single settings: how text becomes a value, and what is refused."""

import math
import re
from typing import Annotated, Literal

import pydantic
from pydantic import Field

from deeph_zero.ao.basis_text import canonical, is_text, looks_like_path
from deeph_zero.errors import InputError
from deeph_zero.settings.loss_terms import parse_loss

_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_NAME = 4096
"""Characters, as many as a path may have."""
_DURATION = re.compile(r"(?:(\d+(?:\.\d*)?|\.\d+)\s*([smhd]))+", re.IGNORECASE)
_DURATION_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([smhd])", re.IGNORECASE)


def parse_duration(value: object) -> float:
    """Seconds from a number or from text such as "90", "45s", "10m", "1h", "1h30m", "2d".

    Args:
        value: A number of seconds, or text.

    Returns:
        Seconds, positive and finite.

    Raises:
        ValueError: If it is not a positive time.
    """
    text = str(value).strip()
    if not isinstance(value, bool) and _DURATION.fullmatch(text):
        seconds = sum(float(n) * _UNIT_SECONDS[u.lower()] for n, u in _DURATION_PART.findall(text))
    else:
        try:
            seconds = math.nan if isinstance(value, bool) else float(text)
        except ValueError:
            seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError("expected a positive time such as 90 (seconds), 10m or 1h")
    return seconds


def _name(value: object) -> object:
    """Names arrive from shells and files: strip blanks, refuse what cannot be a name."""
    if isinstance(value, str):
        value = value.strip()
        if not value or not value.isprintable():
            raise ValueError("expected a name")
        if len(value) > _LONGEST_NAME:
            raise ValueError(f"expected a name of at most {_LONGEST_NAME} characters")
    return value


def _file_name(value: object) -> object:
    """The name of a file to read: any text but a blank one."""
    if isinstance(value, str) and not value.strip():
        raise ValueError(f"expected the name of a file, got {value!r}; name it, or leave it out")
    return value


def _basis(value: object) -> object:
    """A name of PySCF's library, or a text of numbers; never a path, nor a text that is none."""
    if not isinstance(value, str):
        return value
    if is_text(value):
        try:
            return canonical(value)
        except InputError as error:
            text = "expected a basis set in NWChem's format, got another text"
            raise ValueError(f"{text}: {error}") from None
    if looks_like_path(value):
        raise ValueError(
            f"expected a basis set's name or text, got {value[:60]!r}, a path; name files with "
            "--basis or --auxbasis"
        )
    return _name(value)


def _loss(value: object) -> object:
    """A mix of losses, or "auto", which leaves the choice to the engine."""
    if isinstance(value, str) and value != "auto":
        parse_loss(value)
    return value


def _held_out(value: object) -> object:
    """A fraction of what there is, or a file."""
    fraction = value
    if isinstance(value, str):
        try:
            fraction = float(value)
        except ValueError:
            return _name(value)
    if isinstance(fraction, bool) or not isinstance(fraction, int | float):
        raise ValueError("expected a file or a fraction")  # noqa: TRY004  (pydantic wants it)
    if not 0 < fraction <= 0.5:
        raise ValueError("expected a file or a fraction of the frames, above 0 and at most 0.5")
    return float(fraction)


def three_numbers(value: object, least: int, most: int) -> tuple[int, int, int] | None:
    """Three whole numbers, one for each vector of a cell.

    Args:
        value: A list, or words of the command line with blanks or commas between them.
        least: Smallest that is allowed.
        most: Largest.

    Returns:
        The numbers; None for anything else.
    """
    words = value if isinstance(value, list | tuple) else str(value).replace(",", " ").split()
    try:
        numbers = [int(str(word)) for word in words]
    except ValueError:
        return None
    if len(numbers) != 3 or not all(least <= n <= most for n in numbers):
        return None
    return numbers[0], numbers[1], numbers[2]


Workers = Annotated[int, Field(ge=1, le=256)]
Loss = Annotated[str, pydantic.BeforeValidator(_loss)]
Basis = Annotated[str, pydantic.BeforeValidator(_basis)]
Name = Annotated[str, pydantic.BeforeValidator(_name)]
FileName = Annotated[str, pydantic.BeforeValidator(_file_name)]
NotNegative = Annotated[float, Field(ge=0)]
Duration = Annotated[float, pydantic.BeforeValidator(parse_duration)]
Cube = Literal["density", "spin-density", "homo", "lumo"]
"""What ``predict --cube`` puts on a box of points."""

EngineName = Annotated[
    str,
    Field(
        pattern=r"^(local|ray(:\S+)?)$",
        description="Where structures are computed: local processes, ray, or ray:ADDRESS of a "
        "cluster.",
        examples=["local, ray or ray:ADDRESS"],
    ),
]
CloseContacts = Annotated[
    bool, Field(description="Take atoms nearer to each other than they are in any molecule.")
]
Charge = Annotated[
    int,
    Field(ge=-100, le=100, description="Total charge of frames that do not state their own."),
]
Spin = Annotated[
    int,
    Field(ge=0, le=100, description="2S = unpaired electrons of frames that do not state theirs."),
]
FrameCharge = Annotated[
    int | None,
    Field(ge=-100, le=100, description="Charge of frames that state none; none means the model's."),
]
FrameSpin = Annotated[
    int | None,
    Field(ge=0, le=100, description="2S of frames that state none; none means the model's."),
]
HeldOut = Annotated[float | str, pydantic.BeforeValidator(_held_out)]
