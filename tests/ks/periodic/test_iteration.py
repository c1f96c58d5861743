"""Cycles of a crystal's SCF: one iterate, what is remembered, and when cycles stop."""

import dataclasses

import pytest
import torch

from deeph_zero.ks.periodic.iteration import Mixer, State, density, iterate
from deeph_zero.ks.periodic.result import CrystalSCFSettings
from deeph_zero.ks.periodic.types import weighted_trace

PLAIN = CrystalSCFSettings(dielectric=False)


def test_an_iterate_is_its_build(beside):
    ks, _, fock, built = beside
    bands = ks.bands(fock)
    state = State.of(ks, built.dm, bands.filling.entropy_energy)
    assert state.free_energy == pytest.approx(
        float(built.energy) - bands.filling.entropy_energy, abs=1e-12
    )
    assert not state.converged
    # a commutator in an orthonormal basis has every element of the gradient twice, per spin
    error = ks.commutator(built.fock, built.dm)
    assert state.norm == pytest.approx(float(error.norm()) / 2**0.5, rel=1e-12)
    assert state.norm > 1e-3


def test_the_gradient_of_a_solution_vanishes(beside):
    ks, done, *_ = beside
    assert State.of(ks, done.dm, done.entropy_energy).norm < 1e-6


def test_densities_hold_all_electrons(beside):
    ks, _, fock, built = beside
    dm, ts = density(ks, fock, 0.0)
    torch.testing.assert_close(dm, ks.density(fock).detach(), rtol=0, atol=1e-9)
    total = float(weighted_trace(ks.data.weights, dm, ks.data.ovlp))
    assert total == pytest.approx(sum(ks.data.nelec), abs=1e-10)
    assert (ts > 0) == (ks.smearing > 0)
    assert float((dm - built.dm).abs().max()) < 1e-9


def test_the_first_build_is_gone_on_from(beside):
    ks, _, _, built = beside
    mixer = Mixer(ks, PLAIN)
    mixer.add(State.of(ks, built.dm, 0.0))
    torch.testing.assert_close(mixer.next(downhill=True), built.fock, rtol=0, atol=1e-12)
    torch.testing.assert_close(mixer.next(downhill=False), built.fock, rtol=0, atol=1e-12)


def test_a_constant_moves_every_remembered_matrix(beside):
    """A new problem: commutators are made anew, the dielectric step is left alone."""
    ks, done, _, built = beside
    mixer = Mixer(ks, CrystalSCFSettings())
    for dm in (built.dm, done.dm):
        mixer.add(State.of(ks, dm, 0.0))
    before = [pair[0].clone() for pair in mixer.diis.focks]
    change = 0.05 * (done.dm @ built.dm + built.dm @ done.dm)
    mixer.shift(change)
    assert mixer.coulomb is None
    assert mixer.norms == []
    assert len(mixer.diis) == 2
    for pair, old, dm in zip(mixer.diis.focks, before, (built.dm, done.dm), strict=True):
        torch.testing.assert_close(pair[0], old + change)
        torch.testing.assert_close(pair[1], dm)
    assert float(ks.commutator(mixer.diis.focks[1][0], done.dm).norm()) > 1e-4


def test_downhill_mixtures_lower_the_energy(beside):
    """ADIIS: nonnegative coefficients that add up to one, at the density of lowest energy."""
    ks, done, _, built = beside
    mixer = Mixer(ks, PLAIN)
    for dm in (built.dm, done.dm):
        mixer.add(State.of(ks, dm, 0.0))
    found = mixer.next(downhill=True)
    gap = built.fock - done.fock
    share = float((found - done.fock).abs().max() / gap.abs().max())
    torch.testing.assert_close(found - done.fock, share * gap, rtol=0, atol=1e-7)
    assert share < 0.1  # the solution has nearly all the weight


@pytest.mark.parametrize("dielectric", [True, False])
def test_cycles_end_at_the_solution(beside, dielectric):
    ks, done, _, built = beside
    settings = CrystalSCFSettings(dielectric=dielectric, conv_tol=1e-10, conv_tol_grad=1e-5)
    before = ks.fock_builds
    start = State.of(ks, built.dm, 0.0)
    state, cycles = iterate(ks, start, settings, Mixer(ks, settings))
    assert state.converged
    assert 0 < cycles == ks.fock_builds - before - 1
    assert state.free_energy == pytest.approx(done.free_energy, abs=1e-8)


@pytest.mark.parametrize("cycles", [0, 1])
def test_as_many_cycles_as_are_allowed(beside, cycles):
    ks, _, _, built = beside
    settings = dataclasses.replace(PLAIN, max_cycle=cycles)
    start = State.of(ks, built.dm, 0.0)
    state, made = iterate(ks, start, settings, Mixer(ks, settings))
    assert made == cycles
    assert not state.converged
    assert (state is start) == (cycles == 0)
    assert State.of(ks, state.dm, 0.0).free_energy == pytest.approx(
        state.free_energy + state.entropy_energy, abs=1e-9
    )


def test_without_a_start_there_is_one_build_at_least(beside):
    ks, *_ = beside
    settings = dataclasses.replace(PLAIN, max_cycle=0)
    state, made = iterate(ks, None, settings, Mixer(ks, settings))
    assert made == 0
    torch.testing.assert_close(state.dm, density(ks, ks.starting_fock(), 0.0)[0])
