"""Warnings that come once."""

from deeph_zero.host.saying import say_once


def test_a_line_is_said_once(caplog):
    say_once.cache_clear()
    for line in ("one", None, "one", "two"):
        say_once(line)
    assert [record.getMessage() for record in caplog.records] == ["one", "two"]
    say_once.cache_clear()
