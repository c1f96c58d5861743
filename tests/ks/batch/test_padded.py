"""Stacks of unlike molecules: levels, densities and builds of each are those it has alone."""

import pytest
import torch

from deeph_zero.errors import ComputationError
from deeph_zero.ks.batch.padded import PaddedBucket, PaddedOrbitals
from deeph_zero.ks.terms.padding import Padding


def assert_each(found, wanted, atol=1e-10):
    for one, other in zip(found, wanted, strict=True):
        assert float(other.abs().max()) > 1e-6
        torch.testing.assert_close(one, other, rtol=0, atol=atol)


def test_levels_and_orbitals(small, nspin, disturbed):
    layers = small(nspin)
    focks, _ = disturbed(layers)
    bucket = PaddedOrbitals(layers, nmo=9)
    energy, c, occ = bucket.orbitals(bucket.padding.stack(focks))
    assert energy.shape[-1] == 9
    for k, (layer, fock) in enumerate(zip(layers, focks, strict=True)):
        alone = layer.orbitals(fock, 0.0)
        nmo = layer.nmo
        torch.testing.assert_close(energy[k, :, :nmo], alone.mo_energy, rtol=0, atol=1e-11)
        torch.testing.assert_close(occ[k, :, :nmo], alone.mo_occ, rtol=0, atol=0)
        assert not occ[k, :, nmo:].any()
        assert bool((energy[k, :, nmo:] > alone.mo_energy.amax(1, keepdim=True)).all())
        assert not c[k, :, layer.nao :, :nmo].any()
        assert float(c[k, :, :, nmo:].abs().max()) < 1e-10 if nmo < 9 else True


def test_commutators(small, nspin, disturbed):
    layers = small(nspin)
    focks, dms = disturbed(layers)
    bucket = PaddedOrbitals(layers)
    found = bucket.commutator(bucket.padding.stack(focks), bucket.padding.stack(dms))
    for k, (layer, fock, dm) in enumerate(zip(layers, focks, dms, strict=True)):
        wanted = layer.commutator(fock, dm)
        nmo = layer.nmo
        torch.testing.assert_close(found[k, :, :nmo, :nmo], wanted, rtol=0, atol=1e-12)
        assert float(found[k].abs().sum()) == pytest.approx(float(wanted.abs().sum()), abs=1e-10)


def test_densities_of_integer_occupations(small, nspin, disturbed):
    layers = small(nspin)
    focks, _ = disturbed(layers)
    bucket = PaddedBucket(layers)
    wanted = [layer.density(fock) for layer, fock in zip(layers, focks, strict=True)]
    assert_each(bucket.filled(focks), wanted)
    assert_each(bucket.padding.split(bucket.aufbau(bucket.padding.stack(focks), 1e-9)), wanted)
    assert_each(bucket.densities(focks), wanted)


def test_degenerate_levels_are_filled_by_each_ones_tolerance(small):
    """NH+ like counts: two equal levels, half filled where the molecule's tolerance says so."""
    one, other = small(1)
    levels = torch.linspace(-1, 1, one.nmo, dtype=torch.float64)
    n = one.nelec[0]
    levels[n] = levels[n - 1] + 1e-3  # HOMO and LUMO nearly equal
    half = torch.linalg.inv(one.x)
    fock = (half.mT @ torch.diag(levels) @ half)[None]
    one.degeneracy_tol, other.degeneracy_tol = 1e-2, 1e-6
    fock2 = other.build(other.dm_guess).fock
    bucket = PaddedBucket([one, other])
    stack = bucket.padding.stack([fock, fock2])
    _, _, occ = bucket.filled_orbitals(stack)
    assert occ[0, 0, n - 1 : n + 1].tolist() == [1.0, 1.0]
    assert sorted(occ[1, 0].tolist(), reverse=True)[:2] == [2.0, 0.0]
    wanted = [one.density(fock), other.density(fock2)]
    assert_each(bucket.densities([fock, fock2]), wanted)
    one.degeneracy_tol = 1e-6
    _, _, occ = bucket.filled_orbitals(stack)
    assert occ[0, 0, n - 1 : n + 1].tolist() == [2.0, 0.0]


@pytest.mark.parametrize("xc", ["pbe0", "hf"])
def test_builds_and_responses(small, nspin, disturbed, xc):
    layers = small(nspin, xc=xc)
    focks, dms = disturbed(layers)
    bucket = PaddedBucket(layers, Padding([layer.nao for layer in layers], 8))
    found = bucket.fock_builds(dms)
    for one, layer, dm in zip(found, layers, dms, strict=True):
        alone = layer.build(dm)
        torch.testing.assert_close(one.fock, alone.fock, rtol=0, atol=1e-10)
        assert float(one.n_electrons) == pytest.approx(float(alone.n_electrons), abs=1e-10)
        assert one.parts.keys() == alone.parts.keys()
        for name, part in alone.parts.items():
            assert float(one.parts[name]) == pytest.approx(float(part), abs=1e-10)
    wanted = [layer.response(dm, f) for layer, dm, f in zip(layers, dms, focks, strict=True)]
    assert_each(bucket.responses(dms, focks), wanted)
    stacks = bucket.padding.stack(dms), bucket.padding.stack(focks)
    assert_each(bucket.padding.split(bucket.response(*stacks)), wanted)


def test_matrices_that_are_not_finite_are_refused(small):
    layers = small(1)
    bucket = PaddedBucket(layers)
    focks = [layer.dm_guess.clone() for layer in layers]
    focks[1][0, 0, 0] = float("nan")
    for method in (bucket.filled, bucket.densities):
        with pytest.raises(ComputationError, match="finite Fock matrix"):
            method(focks)
