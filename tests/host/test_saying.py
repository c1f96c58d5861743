"""Warnings that come once, and of which structure."""

import logging

from deeph_zero.host.saying import Naming, say_once


def test_a_line_is_said_once(caplog):
    say_once.cache_clear()
    for line in ("one", None, "one", "two"):
        say_once(line)
    assert [record.getMessage() for record in caplog.records] == ["one", "two"]
    say_once.cache_clear()


def test_a_warning_names_its_structure_and_its_kind_comes_once(caplog):
    log, naming = logging.getLogger("deeph_zero"), Naming()
    for where, kind in (("a: ", "Li"), ("b: ", "Li"), ("100 %s: ", "H")):
        with naming.of(where, kind):
            log.warning("coarse by %.1f", 0.5, extra={"of_a_kind": True})
            log.warning("no gap")
            log.info("a cycle")
    log.warning("outside")
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "a: coarse by 0.5",
        "a: no gap",
        "b: no gap",
        "100 %s: coarse by 0.5",
        "100 %s: no gap",
        "outside",
    ]
