"""What people see: bar on a terminal, lines elsewhere, nothing where it was not asked for."""

import io
import logging
import os
import sys

import pytest
from rich.console import Console

from deeph_zero.host import reporting
from deeph_zero.host.reporting import ConsoleReporter, Reporter, SilentReporter, configure_logging


def work(reporter: Reporter) -> None:
    with reporter.task("training", 3) as task:
        for step in range(3):
            task.advance(loss=0.123456 / (step + 1), note="x")
    reporter.message("done [bold] with\nit")
    reporter.table("title", ["name", "value"], [["a", "1.5"], ["b", "-2"]])


def test_plain_lines(capfd):
    work(ConsoleReporter())
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith("training: 3/3  0 s  loss 0.0412  note x")
    assert lines[1] == "done [bold] with it"
    assert [line.split() for line in lines[2:]] == [
        ["title"], ["name", "value"], ["a", "1.5"], ["b", "-2"],
    ]  # fmt: skip
    assert "\x1b" not in out


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_work_goes_on_where_its_reader_has_gone(monkeypatch, name):
    """As with ``| head -1``, or after Ctrl-C with ``2>&1 | tee``, which dies of it."""
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as stream:  # noqa: PTH123  (a descriptor)
        monkeypatch.setattr(sys, name, stream)
        reporter = ConsoleReporter()
        os.close(reader)
        work(reporter)
        reporter.warning("once")
        reporter.warning("twice")


def test_plain_lines_are_rare(capfd, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now[0])
    with ConsoleReporter().task("steps") as task:
        for _ in range(100):
            now[0] += 0.11
            task.advance()
    assert [line.split()[1] for line in capfd.readouterr().out.splitlines()] == ["46", "92", "100"]


def test_time_left(capfd, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(reporting.time, "monotonic", lambda: now[0])
    with ConsoleReporter().task("training", 1000) as task:
        task.skip(400)
        for step, seconds in ((100, 60.0), (200, 120.0), (250, 150.0), (50, 30.0)):
            now[0] += seconds
            task.advance(step, loss=1.0)
    lines = capfd.readouterr().out.splitlines()
    assert lines == [
        "training: 500/1000  60 s  5 min left  loss 1",
        "training: 700/1000  180 s  3 min left  loss 1",
        "training: 950/1000  330 s  30 s left  loss 1",
        "training: 1000/1000  360 s  loss 1",
    ]
    assert reporting._duration(7200.0) == "2.0 h"


def test_bar_on_a_terminal(monkeypatch):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(reporting, "_Console", lambda **_: terminal)
    work(ConsoleReporter())
    assert "3/3" in screen.getvalue()
    assert "loss 0.0412" in screen.getvalue()
    assert "\x1b[" in screen.getvalue()


@pytest.mark.parametrize(
    ("settings", "out", "err"),
    [
        ({"json": True}, 0, ["done [bold] with it", "warning: look"]),
        ({"quiet": True}, 0, ["warning: look"]),
        ({"json": True, "quiet": True}, 0, ["warning: look"]),
    ],
)
def test_silence(capfd, settings, out, err):
    reporter = ConsoleReporter(**settings)
    work(reporter)
    reporter.warning("look")
    captured = capfd.readouterr()
    assert len(captured.out) == out
    assert captured.err.splitlines() == err


def test_no_steps_are_no_line(capfd):
    with ConsoleReporter().task("calibration", 0):
        pass
    assert capfd.readouterr() == ("", "")


def test_silent_reporter(capfd):
    work(SilentReporter())
    SilentReporter().warning("look")
    assert capfd.readouterr() == ("", "")
    assert isinstance(SilentReporter(), Reporter)
    assert isinstance(ConsoleReporter(), Reporter)


def test_oxygen_between_colons_is_no_picture(capfd):
    reporter = ConsoleReporter()
    reporter.table("smiles:O:0", ("", "smiles:O:0"), [["smiles:O:1", "c1cc[nH]c1"]])
    reporter.message("smiles:O:2")
    printed = capfd.readouterr().out
    assert [printed.count(f"smiles:O:{k}") for k in range(3)] == [2, 1, 1]
    assert "c1cc[nH]c1" in printed  # nor is this a style


def test_long_lines_are_not_wrapped(capfd):
    ConsoleReporter().message("word " * 100)
    assert capfd.readouterr().out.count("\n") == 1


@pytest.mark.parametrize(("verbosity", "lines"), [(-1, 2), (0, 2), (1, 3), (2, 4)])
def test_log_levels(capfd, verbosity, lines):
    configure_logging(verbosity)
    configure_logging(verbosity)
    log = logging.getLogger("deeph_zero.part")
    log.debug("fine")
    log.info("news")
    log.warning("a gap closes:\n%s", 0.001)
    log.error("gone")
    err = capfd.readouterr().err.splitlines()
    assert err[-1] == "error: gone"
    if verbosity <= 0:
        assert err[0] == "warning: a gap closes: 0.001"
    assert len(err) == lines + (verbosity > 0)
    fonts = logging.getLogger("matplotlib.font_manager")
    assert fonts.isEnabledFor(logging.WARNING) == (verbosity > 0)
