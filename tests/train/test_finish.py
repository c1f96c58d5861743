"""After training: certificates, both files, and what is said of what was left out."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError
from deeph_zero.host import runtime
from deeph_zero.host.runtime import Deadline
from deeph_zero.ks.counts import Builds
from deeph_zero.predict.single import assemble
from deeph_zero.train import finish
from deeph_zero.train.finish import certify_all, measure, training_deadline, write_summary
from deeph_zero.train.module import FitModule
from deeph_zero.train.plan import make_plan
from deeph_zero.train.prepare import prepare
from deeph_zero.train.run import Earlier, Roles

from . import hydrogen as h


def started(out, n=2, **values):
    """A run whose network is untrained: it predicts its base."""
    run = h.run(out, [h.hydrogen(k) for k in range(n)], **values)
    network = prepare(run, trained=False)
    plan = make_plan(run.config, len(run.geometries.problems))
    run.module = FitModule(network, run.geometries.problems, plan, run.geometries.stream)
    return run, run.module


def test_both_files_say_the_same_and_what_a_prediction_says(tmp_path):
    run, module = started(tmp_path)
    problem = run.geometries.problems[1]
    result = certify_all(run, module, "epochs")
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads(json.dumps(result))
    assert [e["frame"] for e in result["structures"]] == [0, 1]
    assert (result["stopped_by"], result["converged"]) == ("epochs", False)
    assert (result["calibrated"], result["skipped_steps"]) == (False, 0)
    assert "calibration says how many to keep out" in result["not_calibrated"]
    ks, fock = problem.ks, problem.fock0
    wanted = assemble(
        problem.molecule, ks, fock, ks.density(fock), None, certificate=True, coupled=True
    )
    entry = result["structures"][1]
    assert entry["energy"] == pytest.approx(wanted.energy, abs=1e-10)
    assert entry["orbital_gradient_rms"] == pytest.approx(
        wanted.certificate.orbital_gradient_rms, rel=1e-6
    )
    with h5py.File(tmp_path / "predictions.h5") as file:
        assert list(file) == ["0000", "0001"]
        np.testing.assert_allclose(file["0001/fock"], fock, atol=1e-12)
        assert file["0001"].attrs["energy"] == entry["energy"]
        assert bool(file["0001"].attrs["converged"]) is False


def test_builds_of_everything_are_in_the_summary(tmp_path):
    run, module = started(tmp_path)
    run.earlier = Earlier(builds=Builds(100, 50))
    result = certify_all(run, module, "epochs")
    spent = sum(p.ks.fock_builds for p in run.geometries.problems)
    assert result["fock_builds"] == 100 + spent
    assert spent >= 4, "two to begin with, two at the densities"
    module.earlier_builds = Builds(500, 0)  # a checkpoint knows more than the summary before it
    assert write_summary(run, "epochs")["fock_builds"] == 500 + spent


def test_copies_are_not_certified(tmp_path):
    run, module = started(tmp_path, 1, samples=2)
    result = certify_all(run, module, "steps")
    assert len(result["structures"]) == 1
    with h5py.File(tmp_path / "predictions.h5") as file:
        assert len(file) == 1


def test_a_structure_that_fails_is_listed_and_the_others_are_done(tmp_path, monkeypatch):
    real = finish._certify

    def fails(run, module, problem):
        if problem.position == 0:
            raise ComputationError("h2.xyz frame 0: expected a finite density")
        return real(run, module, problem)

    monkeypatch.setattr(finish, "_certify", fails)
    run, module = started(tmp_path)
    run.results.failed = asked = [{"file": "h2.xyz", "frame": 9, "error": "left out"}]
    result = certify_all(run, module, "epochs")
    assert len(asked) == 1, "what a command counts as a failure is what is not in this list"
    assert result["failed"][1:] == [
        {"file": "h2.xyz", "frame": 0, "error": "expected a finite density"}
    ]
    assert [e["frame"] for e in result["structures"]] == [1]
    assert run.reporter.warnings == ["h2.xyz frame 0: expected a finite density"]


def test_where_all_fail_there_is_an_error_and_a_summary(tmp_path, monkeypatch):
    def fails(*_):
        raise ComputationError("expected a finite density")

    monkeypatch.setattr(finish, "_certify", fails)
    run, module = started(tmp_path, 1)
    with pytest.raises(ComputationError, match=r"every structure failed; see .*summary\.json"):
        certify_all(run, module, "epochs")
    assert json.loads((tmp_path / "summary.json").read_text())["structures"] == []


def test_a_time_limit_leaves_nulls_and_one_line(tmp_path):
    """The first certificate is made however long one is expected to take."""
    run, module = started(tmp_path, 3)
    run.runtime = dataclasses.replace(run.runtime, deadline=Deadline(runtime.now() + 1e4))
    run.costs.add("certificate", 1e9)
    result = certify_all(run, module, "epochs")
    assert result["stopped_by"] == "max_time"
    assert [e["energy"] is None for e in result["structures"]] == [False, True, True]
    assert result["left_out"] == ["certificates of 2 of 3 structures"]
    (line,) = run.reporter.warnings
    assert line.startswith("the time limit left out certificates of 2 of 3 structures; go on with")
    with h5py.File(tmp_path / "predictions.h5") as file:
        assert len(file) == 1


def test_rounded_integrals_are_not_certified_with(tmp_path):
    run, module = started(tmp_path, 1, jk_dtype="float32")
    other, plain = started(tmp_path, 1)
    problem, exact = run.geometries.problems[0], other.geometries.problems[0]
    before = problem.ks.builds
    with finish._exact(run, problem) as ks:
        assert ks is not problem.ks
        dm = exact.ks.density(exact.fock0)
        one, two = ks.build(dm), exact.ks.build(dm)
        torch.testing.assert_close(one.fock, two.fock, atol=1e-10, rtol=0)
        rounded = problem.ks.build(dm)
        assert float((rounded.fock - two.fock).abs().max()) > 1e-9
    assert problem.ks.builds.fine == before.fine + 1, "those of the exact layer count"
    with finish._exact(other, exact) as ks:
        assert ks is exact.ks
    assert plain.plan.total_steps == module.plan.total_steps


def test_a_summary_without_training_keeps_what_an_earlier_one_said(tmp_path):
    run = h.run(tmp_path)
    entries = [{"file": "h2.xyz", "frame": 0, "energy": -1.0, "converged": True}]
    run.earlier = Earlier(builds=Builds(7, 3), entries=entries)
    result = write_summary(run, "max_time")
    assert result["structures"] == entries
    assert (result["fock_builds"], result["coarse_builds"]) == (7, 3)
    assert result["converged"] is False
    run.earlier = Earlier()
    run.results.failed.append({"file": "h2.xyz", "frame": 0, "error": "e"})
    assert write_summary(run, "max_time")["structures"] == []


def test_nothing_is_measured_without_a_limit(tmp_path):
    run, module = started(tmp_path, 1)
    before = run.geometries.problems[0].ks.builds
    measure(run, module)
    assert run.geometries.problems[0].ks.builds == before


def test_measuring_costs_training_nothing(tmp_path, monkeypatch):
    """One certificate of many; its builds are not among those that metrics count."""
    monkeypatch.setattr(finish, "WORTH_MEASURING", 2)
    run, module = started(tmp_path)
    run.runtime = dataclasses.replace(run.runtime, deadline=Deadline(runtime.now() + 1e6))
    before = [p.ks.builds for p in run.geometries.problems]
    measure(run, module)
    assert [p.ks.builds for p in run.geometries.problems] == before
    assert run.results.calibration_builds.fine >= 1
    assert run.costs.certificate > 0.0
    assert module.network.training


def test_what_has_to_fit_behind_training(tmp_path):
    run, module = started(tmp_path, 3, samples=1)
    run.roles = Roles(held_out=(7, 8))
    ending = training_deadline(run, module)._ending
    assert (ending.certificates, ending.references) == (3, 2)
    assert ending.passes == 1
    assert ending.steps_per_pass == -(-6 // module.plan.batch_size)
