"""Single settings: text that becomes a value, and text that is refused."""

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeph_zero.settings import value_types
from deeph_zero.settings.value_types import parse_duration, three_numbers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), (90, 90), (0.5, 0.5), ("45s", 45), ("10m", 600), ("1h", 3600), ("1.5h", 5400),
     ("2d", 172800), ("1H 30M", None), ("1h30m", 5400), (" 10m ", 600)],
)  # fmt: skip
def test_durations(text, seconds):
    if seconds is None:
        with pytest.raises(ValueError, match="positive time"):
            parse_duration(text)
    else:
        assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "10x", "-5", "nan", "inf", "0", "0m", True, None, "1e999"]
)
def test_no_durations(text):
    with pytest.raises(ValueError, match="positive time"):
        parse_duration(text)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=8))
def test_any_text_is_a_duration_or_an_error(text):
    result = value_of(value_types.Duration, text)
    assert "positive time" in result if isinstance(result, str) else result > 0


def value_of(kind, value):
    """The value, or what is said of a wrong one."""
    try:
        return pydantic.TypeAdapter(kind).validate_python(value)
    except pydantic.ValidationError as error:
        return str(error.errors()[0]["msg"]).removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        ("6 6 1", (6, 6, 1)),
        ("6,6,1", (6, 6, 1)),
        (" 6, 6  1 ", (6, 6, 1)),
        ([6, 6, 1], (6, 6, 1)),
        (("6", 6, "1"), (6, 6, 1)),
        ("6 6", None),
        ("6 6 1 1", None),
        ("0 1 1", None),
        ("1 1 10", None),
        ("1 1 -1", None),
        ("1.0 1 1", None),
        ([1.5, 1, 1], None),
        ([True, 1, 1], None),
        ([None, 1, 1], None),
        (None, None),
        ("", None),
        (7, None),
    ],
)
def test_three_whole_numbers(value, numbers):
    assert three_numbers(value, 1, 9) == numbers


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (" pbe ", "pbe"),
        ("a b", "a b"),
        ("x" * 4096, "x" * 4096),
        ("x" * 4097, "expected a name of at most 4096 characters"),
        ("", "expected a name"),
        ("\t", "expected a name"),
        ("a\x1b[0m", "expected a name"),
        ("a\nb", "expected a name"),
    ],
)
def test_names_are_printable(value, result):
    assert value_of(value_types.Name, value) == result


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("a b.xyz", "a b.xyz"),
        (" ", "expected the name of a file, got ' '; name it, or leave it out"),
        ("", "expected the name of a file, got ''; name it, or leave it out"),
    ],
)
def test_files_have_a_name(value, result):
    assert value_of(value_types.FileName, value) == result


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (" def2-svp", "def2-svp"),
        ("./b.nw", "expected a basis set's name or text, got './b.nw', a path; name files with"),
        ("m/b.nw", "expected a basis set's name or text, got 'm/b.nw', a path"),
        ("", "expected a name"),
        ("H S\n 1.0 x\n", "expected a basis set in NWChem's format, got another text: line 2"),
    ],
)
def test_a_basis_is_a_name_or_numbers(value, result):
    assert str(value_of(value_types.Basis, value)).startswith(result)


def test_one_basis_has_one_text():
    texts = ("# a\nH    S\n  1.0   1.0\n", "# a\n\nH S\n1.0 1.0\nEND\n")
    first, second = (value_of(value_types.Basis, text) for text in texts)
    assert first == second
    assert value_of(value_types.Basis, first) == first


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (0.1, 0.1),
        ("0.25", 0.25),
        (0.5, 0.5),
        ("val.xyz", "val.xyz"),
        (0.6, "expected a file or a fraction of the frames, above 0 and at most 0.5"),
        ("0", "expected a file or a fraction of the frames, above 0 and at most 0.5"),
        ("nan", "expected a file or a fraction of the frames, above 0 and at most 0.5"),
        (True, "expected a file or a fraction"),
        ([1], "expected a file or a fraction"),
        (" ", "expected a name"),
    ],
)
def test_what_is_kept_out_is_a_fraction_or_a_file(value, result):
    assert value_of(value_types.HeldOut, value) == result


@pytest.mark.parametrize(
    ("value", "good"),
    [("local", True), ("ray", True), ("ray:10.0.0.1:6379", True), ("ray:", False), ("Ray", False),
     ("ray:a b", False), ("", False), ("local\n", False)],
)  # fmt: skip
def test_engines(value, good):
    assert (value_of(value_types.EngineName, value) == value) is good


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("auto", "auto"),
        ("energy@0.1", "expected a loss at every time"),
        ("energy:0.1,fixed-point", "energy:0.1,fixed-point"),
        ("enrgy", "expected one of energy,"),
    ],
)
def test_losses_are_read_when_they_are_set(value, result):
    assert str(value_of(value_types.Loss, value)).startswith(result)
