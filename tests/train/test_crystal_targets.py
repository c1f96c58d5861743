"""What crystals are learnt from: solved, looked up or remembered; some are kept out."""

import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.host.runtime import Deadline, Runtime
from deeph_zero.host.signals import Interrupt
from deeph_zero.settings.config import FitConfig
from deeph_zero.testing import Listener
from deeph_zero.train import crystal_targets
from deeph_zero.train.crystal_samples import Geometry
from deeph_zero.train.crystal_targets import Targets
from deeph_zero.train.run import Roles, Run

from .hydrogen_crystal import crystal, method, network


def interrupt(*, requested=False):
    made = Interrupt()
    made.signum = signal.SIGINT if requested else None
    return made


def run(out, molecules=1, *, at=None, **values):
    return Run(
        config=FitConfig.parse(values),
        runtime=Runtime(torch.device("cpu"), 1, 0, Deadline(at)),
        reporter=Listener(),
        out=out,
        molecules=[crystal(k) for k in range(molecules)],
    )


def found(frames, copies=0, file=0):
    """Geometries as a run lists them: frames, displaced copies, those of a validation file."""
    numbers = [*range(frames), *[None] * (copies + file)]
    return [Geometry(crystal(k), method(), frame) for k, frame in enumerate(numbers)]


@pytest.mark.parametrize(
    ("geometries", "frames", "validation", "expected"),
    [
        (found(7), 7, None, []),
        (found(8), 8, None, [4]),
        (found(24), 24, None, [4, 9, 14, 19]),
        (found(2, copies=16), 18, None, [6, 11, 16]),
        (found(3, file=2), 3, "other.xyz", [3, 4]),
        (found(1), 1, 0.5, []),
    ],
    ids=["few", "eight", "frames", "copies", "file", "one"],
)
def test_who_only_measures(tmp_path, geometries, frames, validation, expected):
    molecules = sum(g.frame is not None for g in geometries)
    one = run(tmp_path, molecules, data={"validation": validation})
    assert sorted(Targets(one)._kept_out(geometries, frames)) == expected


def test_a_fraction_is_of_the_frames_and_said_where_results_are(tmp_path):
    one = run(tmp_path, 10, data={"validation": 0.2})
    targets = Targets(one)
    out = targets._kept_out(found(10, copies=10), 20)
    assert len(out) == 2
    assert sorted(out) == sorted(targets.checked)
    assert max(out) < 10


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """Two crystals solved, the second of which is refused by its method."""
    out = tmp_path_factory.mktemp("crystals")
    one = run(out, 2)
    targets = Targets(one)
    bad = Geometry(crystal(1, charge=3), method(), 1)
    stopped = targets.solve(network(), [Geometry(crystal(), method(), 0), bad], 2, interrupt())
    return SimpleNamespace(run=one, targets=targets, stopped=stopped, out=out)


def test_what_is_solved_is_a_lesson_and_what_fails_is_listed(solved):
    targets = solved.targets
    assert solved.stopped is None
    assert len(targets.lessons) == 1
    assert targets.builds.fine + targets.builds.coarse > 1
    assert targets.kept == {}
    (failed,) = solved.run.results.failed
    assert (failed["file"], failed["frame"]) == ("c.xyz", 1)
    assert solved.run.reporter.warnings[-1] == f"c.xyz frame 1: {failed['error']}"
    (lesson,) = targets.lessons
    zero = lesson.target.with_values(torch.zeros_like(lesson.target.values))
    base, exact = lesson.errors(zero), lesson.errors(lesson.target, lesson.constant)
    assert exact.fock < 0.1 * base.fock, "but for blocks beyond the cutoff"


def test_what_was_solved_is_not_solved_again(solved, monkeypatch):
    def again(*_, **__):
        raise AssertionError("it was solved before")

    monkeypatch.setattr(crystal_targets, "teach", again)
    targets = Targets(run(solved.out))
    assert targets.solve(network(), [Geometry(crystal(), method(), 0)], 1, interrupt()) is None
    assert targets.builds.fine == 0
    assert list(targets.kept) == [0], "one alone is kept for its certificate"
    np.testing.assert_array_equal(
        targets.lessons[0].target.values, solved.targets.lessons[0].target.values
    )


def test_copies_that_fail_are_no_frames_of_the_user(tmp_path, monkeypatch):
    def fails(*_, **__):
        raise InputError("expected something else")

    monkeypatch.setattr(crystal_targets, "prepare_structure", fails)
    one = run(tmp_path)
    targets = Targets(one)
    copy = Geometry(crystal(), method())
    assert targets.solve(network(), [copy], 1, interrupt()) is None
    assert one.results.failed == []
    assert one.reporter.warnings == [
        "a displaced copy of c.xyz frame 0 is left out: expected something else"
    ]


def test_nothing_is_begun_after_an_interrupt(tmp_path):
    targets = Targets(run(tmp_path))
    stop = interrupt(requested=True)
    assert targets.solve(network(), found(2), 2, stop) == "interrupt"
    assert (targets.lessons, targets.checks) == ([], [])


def test_crystals_that_measure_are_never_learnt_from(tmp_path):
    """Not where all others are refused either; one of them that is refused is no displaced copy."""
    one = run(tmp_path, 1, data={"validation": "other.xyz"})
    measuring = crystal(1, file="other.xyz"), crystal(2, file="other.xyz", charge=3)
    one.roles = Roles(validation=measuring)
    bad = Geometry(crystal(charge=3), method(), 0)
    targets = Targets(one)
    geometries = [bad, *(Geometry(m, method()) for m in measuring)]
    assert targets.solve(network(), geometries, 1, interrupt()) is None
    assert (len(targets.lessons), len(targets.checks)) == (0, 1)
    assert [failed["frame"] for failed in one.results.failed] == [0]
    line = one.reporter.warnings[-1]
    assert line.startswith("other.xyz frame 2: not measured with: expected")
