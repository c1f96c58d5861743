"""Builds are spent where they help: the policy, the teachers' error estimates, and failures."""

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError
from deeph_zero.integrals.mole import build_mole
from deeph_zero.kohnsham.batch import KohnShamBatch
from deeph_zero.method import Method
from deeph_zero.molecule import Molecule
from deeph_zero.nn.reading import Reading
from deeph_zero.prepared.molecule import basis_layout, same_data
from deeph_zero.train.budget import MAX_FAILURES, Budget, Lessons
from deeph_zero.train.store.cache import HeavyStore
from deeph_zero.train.taught import make_problem

METHOD = Method(basis="sto-3g", grid_level=0)


def prepared(shift, basis="sto-3g"):
    coords = np.array([[0, 0, 0.2], [0, 1.43 + shift, 1.1], [0.1, -1.4, 1.15]])
    one = Molecule(numbers=np.array([8, 1, 1]), coords=coords, file="w.xyz", frame=int(100 * shift))
    method = dataclasses.replace(METHOD, basis=basis)
    mole = build_mole(one, basis=basis)
    return make_problem(one, method, Reading(basis_layout([mole]), cutoff=8.0))


@pytest.fixture
def problems():
    return [prepared(0.05 * k) for k in range(3)]


def test_a_build_is_wanted_while_the_target_limits_the_network():
    full, rationed = Budget(), Budget(ratio=0.1)
    assert full.wants(1e-9, 1.0)
    assert rationed.wants(2e-4, 1e-3)
    assert not rationed.wants(0.5e-4, 1e-3)
    assert not rationed.wants(2e-4, math.inf), "nothing is known of the network yet"


@pytest.mark.parametrize("n", [1, 7, 8, 9, 20, 64, 1000])
def test_waves_double_and_end_with_everybody(n):
    budget = Budget(ratio=0.1, first=8, last=0.25)
    sizes = [budget.joined(n, p) for p in np.linspace(0, 1, 101)]
    assert sizes[0] == min(n, 8)
    assert set(sizes[25:]) == {n}
    for before, after in itertools.pairwise(sizes):
        assert before <= after <= 2 * before
    assert Budget().joined(n, 0.0) == n


def test_expected_error_is_the_targets_true_one_within_a_factor_of_three():
    problem = prepared(0.0, basis="def2-svp")
    ks, t = problem.ks, problem.teacher
    exact = ks.scf(conv_tol=1e-12, conv_tol_grad=1e-9).fock
    c, nocc = ks.orbitals(exact).mo_coeff, ks.nelec[0]
    assert t.expected_error == math.inf
    for _ in range(6):
        t.advance()
        block = (c.mT @ (t.target - exact) @ c)[:nocc, nocc:]
        true = float(block.square().mean().sqrt())
        assert true / 3 < t.expected_error < 3 * true


def test_state_of_the_lessons_is_kept(problems):
    lessons = Lessons(problems, Budget())
    for p in problems:
        p.teacher.advance()
    lessons.errors = [1.0, 2.0, 3.0]
    lessons.teach([0, 2], lambda _: [])
    again = Lessons([prepared(0.05 * k) for k in range(3)], Budget())
    again.restore(lessons.state())
    before = [p.ks.fock_builds for p in again._problems]
    again.teach([0, 1, 2], lambda _: [])
    after = [p.ks.fock_builds for p in again._problems]
    # 0 and 2 had their build of this round already
    assert [b - a for a, b in zip(before, after, strict=True)] == [0, 1, 0]
    assert again.errors == [1.0, 2.0, 3.0]


def test_a_newcomer_starts_at_the_networks_density(problems):
    lessons = Lessons(problems, Budget(ratio=0.1, first=1))
    guess = problems[1].ks.scf(max_cycle=3, dielectric=False).fock
    lessons.teach([1], lambda batch: [guess for _ in batch])
    assert problems[1].ks.fock_builds >= 2
    ks, dm = problems[1].ks, problems[1].ks.density(guess)
    want = ks.build(dm).fock
    torch.testing.assert_close(problems[1].teacher.target, want + ks.dielectric_step(want, dm))
    builds = problems[1].ks.fock_builds
    lessons.teach([1], lambda batch: [guess for _ in batch])
    assert problems[1].ks.fock_builds == builds, "one build per round"


def test_a_newcomer_starts_alone_when_the_network_says_nothing(problems):
    lessons = Lessons(problems, Budget(ratio=0.1, first=1))
    lessons.teach([1], lambda batch: [problems[1].fock0 * math.nan for _ in batch])
    assert problems[1].teacher.started
    assert bool(torch.isfinite(problems[1].teacher.target).all())


def test_full_budget_ends_when_targets_are_confirmed(problems):
    lessons = Lessons(problems, Budget())
    for p in problems:
        p.teacher.advance()
    for _ in range(20):
        lessons.new_round()
        lessons.teach([0, 1, 2], lambda _: [])
    assert all(p.teacher.converged for p in problems)
    spent = [p.ks.fock_builds for p in problems]
    labelled = [prepared(0.05 * k) for k in range(3)]
    for p in labelled:
        while not p.teacher.converged:
            p.teacher.advance()
    assert spent == [p.ks.fock_builds for p in labelled], "not more than labelling"


@pytest.fixture(scope="module")
def labelled():
    """Geometries whose targets are confirmed; nothing more is asked of them."""
    problems = [prepared(0.05 * k, "def2-svp") for k in range(3)]
    for p in problems:
        while not p.teacher.converged:
            p.teacher.advance()
    return problems


@pytest.mark.parametrize("noise", [1.0, 0.1, 1e-2, 1e-3, 1e-5, 0.0])
def test_no_geometry_costs_more_than_labelling_it_however_bad_the_network(labelled, noise):
    """The budget asks for ever better targets; builds end where labelling would have ended."""
    taught = [prepared(0.05 * k, "def2-svp") for k in range(len(labelled))]
    torch.manual_seed(5)
    predicted = []
    for p in labelled:
        off = torch.randn(p.ks.nmo, p.ks.nmo, dtype=torch.float64)
        off = noise * p.ks.data.ovlp @ p.ks.x @ (off + off.mT) @ p.ks.x.mT @ p.ks.data.ovlp
        predicted.append(p.teacher.target + off)
    lessons = Lessons(taught, Budget(ratio=1e-9, first=0))
    lessons.errors = [1e-6] * len(taught)
    for _ in range(20):
        lessons.new_round()
        lessons.teach(range(len(taught)), lambda batch: [predicted[k] for k in batch])
    for mine, theirs in zip(taught, labelled, strict=True):
        assert mine.teacher.finished
        assert mine.ks.fock_builds <= theirs.ks.fock_builds
        error = mine.teacher.target - theirs.teacher.target
        assert float(error.abs().max()) < 1e-4, "and it is a label"


def test_those_who_wait_are_replaced_by_members(problems):
    lessons = Lessons(problems, Budget(ratio=0.1, first=1, last=0.5))
    (member,) = lessons.members(0.0)
    assert lessons.batch([0, 1, 2], 0.0) == [member]
    assert sorted(lessons.batch([0, 1, 2], 1.0)) == [0, 1, 2]
    assert lessons.members(1.0) == [0, 1, 2]


def test_a_geometry_whose_build_fails_is_left_out_and_training_goes_on(
    problems, monkeypatch, caplog
):
    def broken(*_):
        raise ComputationError("expected a finite density")

    lessons = Lessons(problems, Budget())
    for p in problems:
        p.teacher.advance()
    monkeypatch.setattr(problems[1].ks, "build", broken)
    for _ in range(MAX_FAILURES):
        assert lessons.batch([0, 1, 2], 0.0) == [0, 1, 2]
        lessons.new_round()
        lessons.teach([0, 1, 2], lambda _: [])
    assert lessons.batch([0, 1, 2], 0.0) == [0, 2]
    assert lessons.members(0.0) == [0, 2]
    assert [r.getMessage() for r in caplog.records] == [
        "w.xyz frame 5: left out of the training: expected a finite density"
    ]
    again = Lessons(problems, Budget())
    again.restore(lessons.state())
    assert again.dropped == lessons.dropped
    for k in (0, 2):
        for _ in range(MAX_FAILURES):
            lessons.guard(k, broken)
    with pytest.raises(ComputationError, match="all of them failed"):
        lessons.batch([0], 0.0)


def taught(together):
    """States of three teachers after four builds; two geometries stored, a fourth one fails."""
    problems = [prepared(0.05 * k) for k in range(4)]
    store = HeavyStore(1e3)
    for k, p in enumerate(problems[:2]):
        again = functools.partial(same_data, p.molecule, METHOD, p.ks.data.dm_guess)
        problems[k] = store.adopt(p, again)
    lessons = Lessons(problems, Budget())
    lessons.together = together
    problems[3].teacher.target = torch.full_like(problems[3].fock0, math.nan)
    for _ in range(4):
        lessons.advance([0, 1, 2, 3])
    assert list(lessons.dropped) == [3]
    assert [p.ks.fock_builds for p in problems[:3]] == [5] * 3
    return [p.teacher.state() for p in problems[:3]]


def test_builds_made_together_are_those_made_alone(monkeypatch):
    sizes, build = [], KohnShamBatch.build
    monkeypatch.setattr(
        KohnShamBatch, "build", lambda b, dms: sizes.append(len(b)) or build(b, dms)
    )
    for alone, shared in zip(taught(together=False), taught(together=True), strict=True):
        assert alone.keys() == shared.keys()
        assert all(torch.equal(alone[key], shared[key]) for key in alone)
    assert sizes == [3] * 4


def test_a_batch_that_fails_is_built_one_by_one(problems, monkeypatch):
    def broken(*_):
        raise ComputationError("expected a finite density")

    lessons = Lessons(problems, Budget())
    lessons.together = True
    monkeypatch.setattr(KohnShamBatch, "build", broken)
    monkeypatch.setattr(problems[1].ks, "build", broken)
    for _ in range(MAX_FAILURES):
        lessons.advance([0, 1, 2])
    assert list(lessons.dropped) == [1]
    assert [problems[k].teacher.builds for k in (0, 2)] == [MAX_FAILURES] * 2


def test_a_failure_that_passes_is_forgiven(problems):
    lessons = Lessons(problems, Budget())

    def broken():
        raise ComputationError("expected a finite density")

    for _ in range(3 * MAX_FAILURES):
        assert lessons.guard(0, broken) is None
        assert lessons.guard(0, lambda: 7) == 7
    assert lessons.dropped == {}
