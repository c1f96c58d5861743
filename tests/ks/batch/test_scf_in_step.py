"""SCF of several molecules in one call: results, builds and coarse solutions of each alone."""

import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.ks.batch.ks_batch import KSBatch
from deeph_zero.ks.batch.scf_in_step import coarse_solutions, solve_batch
from deeph_zero.ks.scf.result import SCFSettings
from deeph_zero.ks.scf.solve import coarse_solution, solve_scf

STRATEGIES = pytest.mark.parametrize("strategy", ["merged", "padded"])
QUIET = {"hint": False}


def assert_same(found, wanted):
    assert found.converged == wanted.converged
    assert found.energy == pytest.approx(wanted.energy, abs=1e-9)
    assert found.iterations == wanted.iterations
    assert found.fock_builds == wanted.fock_builds
    assert found.coarse_builds == wanted.coarse_builds
    torch.testing.assert_close(found.dm, wanted.dm, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.mo_energy, wanted.mo_energy, rtol=0, atol=1e-7)


@STRATEGIES
@pytest.mark.parametrize(
    "given",
    [{}, {"damp": 0.3, "diis_start": 3, "level_shift": 0.2}, {"init_guess": "core"},
     {"dielectric": False}, {"max_cycle": 2}],
    ids=str,
)  # fmt: skip
def test_settings_act_on_each_as_alone(small, strategy, given):
    settings = SCFSettings(**QUIET, **given)
    found = solve_batch(KSBatch(small(1), strategy=strategy), None, settings)
    wanted = [solve_scf(layer, None, settings) for layer in small(1)]
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other)


@STRATEGIES
def test_starts_and_their_builds_are_taken_over(small, disturbed, strategy):
    layers, settings = small(2), SCFSettings(**QUIET)
    _, dms = disturbed(layers)
    firsts = [layers[0].build(dms[0]), None, None]
    layers[0].fock_builds = 0
    found = solve_batch(KSBatch(layers, strategy=strategy), list(dms), settings, firsts)
    for k, layer in enumerate(small(2)):
        wanted = solve_scf(layer, dms[k], settings, firsts[k])
        assert_same(found[k], wanted)


@STRATEGIES
def test_two_grids(small, strategy):
    """A grid fine enough for a coarse one beside it."""
    settings = SCFSettings(**QUIET)
    found = solve_batch(KSBatch(small(1, grid_level=3), strategy=strategy), None, settings)
    for one, layer in zip(found, small(1, grid_level=3), strict=True):
        wanted = solve_scf(layer, None, settings)
        assert wanted.coarse_builds > 0
        assert_same(one, wanted)


@STRATEGIES
def test_coarse_solutions(small, disturbed, strategy):
    layers = small(1, grid_level=3)
    _, dms = disturbed(layers)
    focks = [layer.build(dm).fock for layer, dm in zip(layers, dms, strict=True)]
    layers[1].degeneracy_tol = 1e-4  # another tolerance: another stack
    found = coarse_solutions(KSBatch(layers, strategy=strategy), dms, focks)
    for one, layer, dm, fock in zip(found, layers, dms, focks, strict=True):
        wanted = coarse_solution(layer, dm, fock)
        assert one is not None
        assert wanted is not None
        assert one.change == pytest.approx(wanted.change, abs=1e-9)
        assert wanted.change < -1e-4
        torch.testing.assert_close(one.dm, wanted.dm, rtol=0, atol=1e-6)
        torch.testing.assert_close(one.fock, wanted.fock, rtol=0, atol=1e-6)


def test_without_a_coarse_grid_there_is_no_solution(small, disturbed):
    layers = small(1, xc="hf")
    focks, dms = disturbed(layers)
    assert coarse_solutions(KSBatch(layers, strategy="padded"), dms, focks) == [None, None]


def test_matrices_of_other_molecules_are_refused(small):
    layers = small(1)
    batch, settings = KSBatch(layers, strategy="merged"), SCFSettings(**QUIET)
    with pytest.raises(InputError, match="expected as many matrices"):
        solve_batch(batch, [layers[0].dm_guess], settings)
    with pytest.raises(InputError, match="expected"):
        solve_batch(batch, [layers[1].dm_guess, layers[0].dm_guess], settings)
