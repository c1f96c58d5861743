"""Text for a terminal: nothing it would obey, never a screenful."""

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from deeph_zero.host.one_line import LONGEST, one_line, quoted


def test_control_characters_are_written_out():
    assert one_line("a\x1b[31m\nb\u202ec\x85\u2028.xyz: no") == (
        r"a\x1b[31m\nb\u202ec\x85\u2028.xyz: no"
    )
    assert one_line("p\udcff.xyz") == r"p\udcff.xyz"
    assert one_line("Grüße, 水: 1 Å") == "Grüße, 水: 1 Å"


def test_the_middle_of_a_long_value_is_left_out():
    line = one_line(f"error: x.xyz frame 0: expected a number, got {'9' * 5000}; correct it")
    assert len(line) < 250
    assert line.startswith("error: x.xyz frame 0: expected a number, got 99")
    assert "99...99" in line
    assert line.endswith("9; correct it")
    assert len(one_line("word " * 1000)) <= LONGEST
    assert one_line("word " * 1000, longest=None) == ("word " * 1000).strip()


@given(st.text())
def test_any_text_is_one_printable_line(text):
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= LONGEST


def test_values_that_cannot_be_written_are_described():
    assert quoted(1 << 100_000) == "a number of very many digits"
    assert quoted(dt.date(2020, 1, 2)) == "2020-01-02"
    assert quoted("a") == "'a'"
    assert len(quoted("a" * 10_000)) <= LONGEST
