"""The SCF of a padded stack: iterations in step, idle members, second-order steps, responses."""

import pytest
import torch

from deeph_zero.ks.batch.stacked_scf import StackedSCF, in_step
from deeph_zero.ks.scf.iteration import Wanted
from deeph_zero.ks.scf.result import SCFSettings
from deeph_zero.ks.scf.solve import solve_scf
from deeph_zero.ks.terms.padding import widened


def counting(n, asked):
    """An iteration of n requests that adds up its answers."""
    total = 0
    for k in range(n):
        total += yield (asked, k)
    return total


def test_iterations_go_on_together_until_each_has_stopped():
    rounds = []

    def answers(asked):
        rounds.append(sorted(asked))
        return {k: 10 * k + n for k, (_, n) in asked.items()}

    runs = {1: counting(3, "a"), 4: counting(1, "b"), 2: counting(0, "c")}
    assert in_step(runs, answers) == {1: 10 + 11 + 12, 4: 40, 2: 0}
    assert list(in_step({3: counting(0, "a")}, answers)) == [3]
    assert rounds == [[1, 4], [1], [1]]


def test_errors_of_answers_end_it():
    def failing(asked):
        raise ArithmeticError(sorted(asked))

    with pytest.raises(ArithmeticError, match="0"):
        in_step({0: counting(1, "a")}, failing)
    assert in_step({}, failing) == {}


def test_results_have_each_ones_own_size(small, nspin):
    settings = SCFSettings(hint=False)
    layers = small(nspin)
    with torch.no_grad():
        found = StackedSCF(layers, settings).solve(
            [one.dm_guess for one in layers], [None] * len(layers)
        )
    for one, layer, again in zip(found, layers, small(nspin), strict=True):
        wanted = solve_scf(again, None, settings)
        assert one.energy == pytest.approx(wanted.energy, abs=1e-9)
        assert layer.fock_builds == again.fock_builds
        for name in ("fock", "dm", "mo_coeff", "mo_energy", "mo_occ"):
            assert getattr(one, name).shape == getattr(wanted, name).shape
        torch.testing.assert_close(one.mo_occ, wanted.mo_occ)
        s = layer.data.ovlp
        c = one.mo_coeff
        torch.testing.assert_close(
            c.mT @ s @ c, torch.eye(layer.nmo).double().expand(nspin, -1, -1), rtol=0, atol=1e-10
        )


def test_a_saddle_is_left_by_each_alone(small):
    """Molecules that look for saddles end as they do alone, orbitals included."""
    settings = SCFSettings(hint=False, leave_saddles=True)
    layers = small(2, xc="hf")
    with torch.no_grad():
        found = StackedSCF(layers, settings).solve([one.dm_guess for one in layers], [None] * 3)
    assert found[0].fock_builds > found[0].iterations + 1  # the search for saddles counts
    for one, again in zip(found, small(2, xc="hf"), strict=True):
        wanted = solve_scf(again, None, settings)
        assert one.energy == pytest.approx(wanted.energy, abs=1e-8)
        assert one.converged


def test_coarse_responses(small, disturbed):
    layers = small(1, grid_level=3)
    _, dms = disturbed(layers)
    stack = StackedSCF(layers, SCFSettings())
    along = [dm @ dm for dm in dms]
    with torch.no_grad():
        found = stack.responses({1: (dms[1], along[1]), 0: (dms[0], along[0])})
    assert [one.coarse_builds for one in layers] == [1, 1]
    for k, layer in enumerate(small(1, grid_level=3)):
        coarse = layer.coarse
        assert coarse is not None
        wanted = coarse.response(dms[k], along[k])
        assert float(wanted.abs().max()) > 1e-3
        torch.testing.assert_close(found[k], wanted, rtol=0, atol=1e-10)
        assert layer.fock_builds == 0


def test_a_build_that_nobody_asked_for_does_not_count(small):
    """An idle member's build is made along, at its last density, while most others go on."""
    layers = [*small(1), *small(1)]
    stack = StackedSCF(layers, SCFSettings())
    nao = max(one.nao for one in layers)
    wanted = {
        k: Wanted(layer=one, dm=widened(one.dm_guess, nao, nao)) for k, one in enumerate(layers)
    }
    with torch.no_grad():
        first = stack._answers(wanted)
        again = stack._answers({k: wanted[k] for k in (0, 1, 3)})
    assert sorted(again) == [0, 1, 3]
    assert [one.fock_builds for one in layers] == [2, 2, 1, 2]
    alone = small(1)[1]
    energy = float(alone.build(alone.dm_guess).energy)
    for state in (first[1], first[3], again[1], again[3]):
        assert state.energy == pytest.approx(energy, abs=1e-10)
