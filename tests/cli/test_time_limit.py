"""A time limit counts from the first line: what it ends before any work is said, never cut off."""

import functools

import pytest

from deeph_zero.cli import main
from deeph_zero.cli.options import Invocation
from deeph_zero.host import runtime

COMMANDS = {
    "fit": ["fit", "frames.xyz", "--basis", "sto-3g"],
    "label": ["label", "frames.xyz", "--basis", "sto-3g"],
    "predict": ["predict", "model", "frames.xyz"],
    "evaluate": ["evaluate", "model", "frames.xyz"],
}


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def clock(monkeypatch):
    """A clock of one tick per look at it."""
    ticks = iter(range(10**9))
    monkeypatch.setattr(runtime, "now", lambda: float(next(ticks)))
    monkeypatch.setattr(main, "Invocation", functools.partial(Invocation, started=0.0))


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_limit_that_ends_while_reading_is_said(name, folder, run, engine):
    before = sorted(folder.iterdir())
    outcome = run(*COMMANDS[name], "--max-time", "2")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1] == (
        "error: the time limit ended while reading frames.xyz, 2 of its frames were read; nothing "
        "was computed, allow more --max-time or give fewer structures"
    )
    assert engine.calls == []
    assert sorted(folder.iterdir()) == before


@pytest.mark.usefixtures("clock")
def test_a_limit_that_ends_while_checking_is_said(run, engine):
    outcome = run(*COMMANDS["fit"], "--max-time", "4")
    assert "while checking structures, 1 of 3 were checked; nothing was computed" in outcome.err
    assert engine.calls == []


@pytest.mark.usefixtures("clock")
def test_a_limit_that_is_long_enough_changes_nothing(run, engine):
    assert run(*COMMANDS["fit"], "--max-time", "1000").code == 0
    assert len(engine.calls[0]["molecules"]) == 3


def test_copies_are_made_within_the_limit(run, monkeypatch):
    from deeph_zero.train import sampling

    modes = sampling.thermal_modes

    def slow(*args):
        monkeypatch.setattr(runtime, "now", lambda: float("inf"))
        return modes(*args)

    monkeypatch.setattr(sampling, "thermal_modes", slow)
    samples = ["--samples", "2", "--sampling", "normal-modes", "--max-time", "1h"]
    outcome = run("fit", "frames.xyz", "--basis", "sto-3g", "--grid-level", "0", *samples)
    assert outcome.code == 1
    assert "before training: copies of 1 of 3 structures were made; nothing was" in outcome.err
