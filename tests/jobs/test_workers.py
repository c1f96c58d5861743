"""Structures to results in one process: failures are outcomes, calls of several are halved."""

import dataclasses
import logging
import multiprocessing

import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError, InputError, NoSpaceError
from deeph_zero.jobs import workers
from deeph_zero.jobs.journal import Record, decode, digest
from deeph_zero.jobs.workers import Job, Together, attempt, outcomes, start_process
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import RuntimeConfig


def structure(k):
    return Molecule(
        numbers=np.array([1, 1]), coords=np.array([[0, 0, 0], [0, 0, 1.4 + k]]), file="h2.xyz",
        frame=k,
    )  # fmt: skip


TASKS = [(k, structure(k)) for k in range(6)]


def record(index, molecule):
    return Record(
        index=index, digest=digest(molecule), arrays={"r": molecule.coords}, attributes={},
        entry={"frame": molecule.frame}, auxbasis=None, fock_builds=1,
    )  # fmt: skip


def compute(index, molecule, warn):
    if molecule.frame == 2:
        raise ComputationError(f"{molecule.where}did not converge")
    if molecule.frame == 3:
        warn("h2.xyz frame 3: strange")
    if molecule.frame == 4:
        raise NoSpaceError("the disk is full")
    return record(index, molecule)


@dataclasses.dataclass
class Alone:
    """A job of single structures."""

    verbose: int = 0
    function: object = compute

    def start(self, threads):
        self.threads = threads
        return self.function


def test_a_result_comes_back_with_its_structure():
    found = attempt(compute, TASKS[1])
    assert (found.task, found.error, found.warnings) == (TASKS[1], None, ())
    assert found.digest == digest(structure(1))
    np.testing.assert_array_equal(decode(found.data).arrays["r"], structure(1).coords)


def test_what_fails_is_an_outcome_like_the_others():
    found = attempt(compute, TASKS[2])
    assert found.data is None
    assert found.error == {"file": "h2.xyz", "frame": 2, "error": "did not converge"}
    assert attempt(compute, TASKS[3]).warnings == ("h2.xyz frame 3: strange",)


@pytest.mark.parametrize("kind", [ZeroDivisionError, MemoryError, KeyError, InputError])
def test_whatever_a_structure_meets_does_not_end_the_batch(kind):
    def breaks(*_):
        raise kind("no")

    assert attempt(breaks, TASKS[0]).error["frame"] == 0


def test_a_full_disk_and_an_interrupt_do():
    with pytest.raises(NoSpaceError):
        attempt(compute, TASKS[4])

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(interrupted, TASKS[0])


def test_structures_are_taken_one_at_a_time():
    taken = []

    def tasks():
        for task in TASKS[:3]:
            taken.append(task[0])
            yield task

    job = Alone()
    assert isinstance(job, Job)
    found = outcomes(job, tasks(), workers=1, threads=3)
    assert taken == []
    next(found)
    assert taken == [0]
    assert [one.error is None for one in found] == [True, False]
    assert job.threads == 3


def test_a_job_that_cannot_start_is_an_error():
    class Broken(Alone):
        def start(self, threads):
            del threads
            raise InputError("expected a model")

    with pytest.raises(InputError, match="expected a model"):
        next(outcomes(Broken(), iter(TASKS), workers=1, threads=1))


class Several:
    """Computes up to four structures at once; calls with a bad one, or more than fit, fail."""

    at_once = 4

    def __init__(self, bad=(), fits=4, error=RuntimeError):
        self.bad, self.fits, self.error, self.calls = bad, fits, error, []

    device, room = torch.device("cpu"), None

    def order(self, molecule):
        del molecule

    def several(self, tasks, warns, portables):
        assert portables == [None] * len(tasks)
        numbers = [k for k, _ in tasks]
        self.calls.append(numbers)
        warns[0](f"first is {numbers[0]}")
        if len(tasks) > self.fits or set(numbers) & set(self.bad):
            raise self.error("CUDA out of memory")
        return [record(*task) for task in tasks]

    def __call__(self, index, molecule, warn):
        del warn
        self.calls.append(index)
        if index in self.bad:
            raise ComputationError("bad one")
        return record(index, molecule)


def run(several):
    assert isinstance(several, Together)
    job = Alone(function=several)
    return list(outcomes(job, iter(TASKS), workers=1, threads=1))


def test_several_are_computed_in_one_call():
    several = Several()
    found = run(several)
    assert several.calls == [[0, 1, 2, 3], [4, 5]]
    assert [decode(one.data).index for one in found] == list(range(6))
    assert [one.warnings for one in found if one.warnings] == [("first is 0",), ("first is 4",)]


def test_what_does_not_fit_is_halved():
    several = Several(fits=2)
    assert all(one.error is None for one in run(several))
    assert several.calls == [[0, 1, 2, 3], [0, 1], [2, 3], [4, 5]]


def test_one_bad_structure_costs_itself(caplog):
    several = Several(bad={1})
    with caplog.at_level(logging.DEBUG, logger="deeph_zero"):
        found = run(several)
    assert [one.error is None for one in found] == [True, False, True, True, True, True]
    assert found[1].error["error"] == "bad one"
    assert several.calls == [[0, 1, 2, 3], [0, 1], 0, 1, [2, 3], [4, 5]]
    assert [one.warnings for one in found] == [(), (), ("first is 2",), (), ("first is 4",), ()]
    assert "4 structures in one call failed: CUDA out of memory" in caplog.text


def test_a_full_disk_is_not_halved():
    with pytest.raises(NoSpaceError):
        run(Several(bad={1}, error=NoSpaceError))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "SIGKILL, out of memory?"),
        (-11, "SIGSEGV"),
        (3, "exit code 3"),
        (None, "exit code None"),
    ],
)
def test_how_a_process_ended(code, words):
    assert workers._reason(code) == words


def test_a_process_has_its_own_threads_and_the_commands_seed(monkeypatch):
    config = RuntimeConfig(device="cpu", threads=4, seed=11)
    assert multiprocessing.parent_process() is None
    found = start_process(config, 1)
    assert (found.threads, found.seed, found.device) == (1, 11, torch.device("cpu"))
    first = torch.rand(1)
    start_process(config, 1)
    assert torch.equal(torch.rand(1), first)
    told = []
    monkeypatch.setattr(multiprocessing, "parent_process", object)
    monkeypatch.setattr(workers, "configure_logging", told.append)
    start_process(config, 1)
    assert told == [config.verbose], "a worker has its log to set up"
