"""Strict settings: what a field accepts in words, near names, and messages in other words."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from deeph_zero.errors import InputError
from deeph_zero.settings.base import Settings, expected, option_name, with_names


class Inner(Settings):
    width: float = Field(default=0.1, gt=0, le=1)
    unrestricted: bool = False


class Every(Settings):
    """One field of each kind."""

    count: int = 3
    share: float = Field(default=0.0, ge=0, lt=1)
    steps: int | None = Field(default=None, ge=1)
    tol: float | None = Field(default=None, gt=0)
    level: int = Field(default=3, ge=0, le=9)
    negative: float = Field(default=-1.0, lt=0)
    most: float = Field(default=1.0, le=2.5)
    between: float = Field(default=1.0, gt=0, lt=2)
    name: str = "pbe"
    switch: bool = True
    way: Literal["fast", "slow"] = "fast"
    names: tuple[str, ...] = ()
    weights: tuple[Annotated[float, Field(ge=0)], float, float] = (0, 0, 0)
    mesh: tuple[int, int, int] = (1, 1, 1)
    device: str = Field(default="auto", examples=["auto, cpu or cuda"], pattern="^(auto|cpu|cuda)$")
    inner: Inner = Inner()
    hidden: float = Field(default=0.0, exclude=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("count", "a whole number"),
        ("share", "a number from 0 and below 1"),
        ("steps", "a whole number from 1 up"),
        ("tol", "a number above 0"),
        ("level", "a whole number from 0 to 9"),
        ("negative", "a number below 0"),
        ("most", "a number at most 2.5"),
        ("between", "a number above 0 and below 2"),
        ("name", "a name"),
        ("switch", "true or false"),
        ("way", "one of fast, slow"),
        ("names", "a list of names"),
        ("weights", "a list of 3 numbers"),
        ("mesh", "a list of 3 whole numbers"),
        ("device", "auto, cpu or cuda"),
        ("inner", "a section of settings"),
    ],
)
def test_what_a_field_accepts_is_said_in_words(name, words):
    assert expected(Every.model_fields[name]) == words


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"level": 10}, "--level: expected a whole number from 0 to 9, got 10"),
        ({"level": True}, None),
        ({"share": 1}, "--share: expected a number from 0 and below 1, got 1"),
        ({"share": float("nan")}, "--share: expected a number from 0 and below 1, got nan"),
        ({"negative": 2}, "--negative: expected a number below 0, got 2"),
        ({"way": "fst"}, "--way: expected one of fast, slow, got 'fst'; did you mean fast?"),
        ({"way": "qqqq"}, "--way: expected one of fast, slow, got 'qqqq'"),
        ({"names": "a"}, "--names: expected a list of names, got 'a'; write [..., ...]"),
        ({"weights": [-1, 0, 0]}, "--weights: expected a list of 3 numbers, got -1; write"),
        ({"name": 5}, "--name: expected a name, got 5; for example pbe"),
        ({"inner": 1}, "--inner: expected a section of settings, got 1; write [--inner]"),
        ({"inner": {"width": 0}}, "--width: expected a number above 0 and at most 1, got 0"),
        ({"inner": {"widht": 1}}, "unknown setting 'inner.widht'; did you mean 'width'?"),
        ({"unrestrictd": 1}, "unknown setting 'unrestrictd'; did you mean 'inner.unrestricted'?"),
        ({"zzz": 1}, "unknown setting 'zzz'; known are count, share, steps"),
        ({"hiden": 1}, "unknown setting 'hiden'; known are count, "),
    ],
)
def test_a_wrong_value_is_one_line(values, line):
    if line is None:
        assert Every.parse(values).level == 1
        return
    with pytest.raises(InputError) as info:
        Every.parse(values)
    assert str(info.value).startswith(line)
    assert "hidden" not in str(info.value)
    assert "\n" not in str(info.value)


def test_a_file_calls_settings_by_their_path():
    with pytest.raises(InputError, match=r"^inner\.width: expected a number above 0 and at most 1"):
        Every.parse({"inner": {"width": 2}}, named=".".join)
    with pytest.raises(InputError, match=r"got 1; write \[inner\]"):
        Every.parse({"inner": 1}, named=".".join)


@pytest.mark.parametrize(
    ("setting", "option"),
    [
        ("grid_level", "--grid-level"),
        ("conv_tol_grad", "--tol"),
        ("memory_mb", "--memory"),
        ("source_format", "--from"),
        ("verbose", "-v"),
        ("x", "-x"),
    ],
)
def test_settings_and_their_options(setting, option):
    assert option_name(setting) == option


@pytest.mark.parametrize(
    ("text", "keep", "renamed"),
    [
        ("--width: give --steps N", (), "inner.width: give steps N"),
        ("leave --width out", ("--width",), "leave --width out"),
        ("--no-unrestricted is the default", (), "inner.unrestricted = false is the default"),
        ("--wide and x--width stay, as -o does", (), "--wide and x--width stay, as -o does"),
        ("--width-of-it", (), "--width-of-it"),
        ("(--steps)", (), "(steps)"),
    ],
)
def test_options_in_the_words_of_a_file(text, keep, renamed):
    assert with_names(text, Every, ".".join, keep=keep) == renamed
