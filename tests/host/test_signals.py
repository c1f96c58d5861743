"""Ctrl-C, SIGTERM and SIGHUP: one way to end, and an exit code that says which it was."""

import os
import signal

import pytest

from deeph_zero.cli import main
from deeph_zero.host import signals


@pytest.fixture(autouse=True)
def _signals_act_as_in_a_terminal():
    """A run in the background, or under nohup, may have been started with some ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGHUP, hangup)


@pytest.mark.parametrize("signum", signals.END_SIGNALS)
def test_first_interrupt_waits_for_the_step(signum):
    steps = []

    def run() -> None:
        with signals.interruptible() as interrupt:
            for step in range(5):
                if step == 1:
                    os.kill(os.getpid(), signum)
                steps.append(step)
                interrupt.check()

    before = signal.getsignal(signum)
    with pytest.raises(KeyboardInterrupt) as info:
        run()
    assert signals.signal_of(info.value) == signum
    assert steps == [0, 1]
    assert signal.getsignal(signum) is before


@pytest.mark.parametrize("signum", signals.END_SIGNALS)
def test_second_interrupt_does_not_wait(signum):
    def run() -> None:
        with signals.interruptible():
            os.kill(os.getpid(), signum)
            os.kill(os.getpid(), signum)
            raise AssertionError("waited")

    with pytest.raises(KeyboardInterrupt) as info:
        run()
    assert signals.signal_of(info.value) == signum


@pytest.mark.parametrize(
    ("signum", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "ended by SIGTERM")]
)
def test_the_first_interrupt_is_said_at_once_and_the_second_is_not(signum, word):
    said = []

    def run() -> None:
        with signals.interruptible(said.append):
            os.kill(os.getpid(), signum)
            assert said == [f"{word}: {signals.FIRST}"]
            os.kill(os.getpid(), signum)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(said) == 1


def test_a_terminal_that_has_gone_does_not_hide_the_interrupt():
    def gone(_text):
        raise BrokenPipeError

    def run() -> None:
        with signals.interruptible(gone) as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt.requested

    with pytest.raises(KeyboardInterrupt):
        run()


def test_an_interrupt_in_the_last_step_changes_nothing_and_that_is_said():
    def run(stopped_by, said) -> None:
        with signals.interruptible(said.append) as interrupt:
            interrupt.settle(stopped_by)
            assert said == []
            os.kill(os.getpid(), signal.SIGINT)
            interrupt.settle(stopped_by)

    said = []
    run(None, said)
    assert said == [f"interrupted: {text}" for text in (signals.FIRST, signals.LAST)]
    said = []
    with pytest.raises(KeyboardInterrupt):
        run("interrupt", said)
    assert said == [f"interrupted: {signals.FIRST}"]


@pytest.mark.parametrize("signum", signals.END_SIGNALS)
def test_an_interrupt_nobody_asked_about_is_not_lost(signum):
    def run() -> None:
        with signals.interruptible():
            os.kill(os.getpid(), signum)

    with pytest.raises(KeyboardInterrupt) as info:
        run()
    assert signals.signal_of(info.value) == signum


@pytest.mark.parametrize(
    ("signum", "code", "line"),
    [
        (signal.SIGINT, 130, "error: interrupted"),
        (signal.SIGTERM, 143, "error: ended by SIGTERM"),
        (signal.SIGHUP, 129, "error: ended by SIGHUP"),
    ],
)
def test_every_command_ends_with_the_code_of_the_signal(monkeypatch, capsys, signum, code, line):
    before = {s: signal.getsignal(s) for s in signals.END_SIGNALS}
    monkeypatch.setattr(main, "_run", lambda _args: os.kill(os.getpid(), signum))
    assert main.entry_point(["doctor"]) == code
    assert capsys.readouterr().err == line + "\n"
    assert {s: signal.getsignal(s) for s in signals.END_SIGNALS} == before


def test_a_signal_that_is_ignored_stays_ignored(monkeypatch):
    """As ``nohup`` starts a command."""

    def work(_args):
        os.kill(os.getpid(), signal.SIGHUP)
        with signals.interruptible() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not interrupt.requested
        return 0

    monkeypatch.setattr(main, "_run", work)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main.entry_point(["doctor"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_sentence_keeps_the_signal():
    said = signals.saying(signals.Stopped(signal.SIGTERM), "; the run is kept")
    assert (str(said), said.signum) == ("ended by SIGTERM; the run is kept", signal.SIGTERM)
    assert str(signals.saying(KeyboardInterrupt(), "")) == "interrupted"
