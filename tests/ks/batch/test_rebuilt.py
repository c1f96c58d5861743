"""One build at P(H) of several molecules as stacks, against each molecule's own layer."""

import dataclasses
import functools
import math

import pytest
import torch
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.batch.ks_batch import KSBatch
from deeph_zero.ks.batch.rebuilt import rebuilt
from deeph_zero.ks.certificate import certify
from deeph_zero.ks.occupation import smallest_gap

MOLECULES = (("H 0 0 0; H 0 .1 .76", "6-31g"), ("Li .1 0 0; H 0 .3 1.5", "sto-3g"),
             ("H 0 .1 0; H 0 0 .9", "6-31g"))  # fmt: skip
"""Geometries and basis sets: two sizes in one stack. Open shells are their anions."""


def layers(xc, *, unrestricted):
    return [one.on(one.data) for one in made(xc, unrestricted=unrestricted)]


@functools.cache
def made(xc, *, unrestricted):
    found = []
    for atom, basis in MOLECULES:
        n = int(unrestricted)
        mol = gto.M(atom=atom, basis=basis, charge=-n, spin=n, verbose=0)
        found.append(KohnSham.from_pyscf(mol, xc=xc, grid_level=0).layer)
    return found


def matrices(given, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for one in given:
        fock = one.build(one.dm_guess).fock
        noise = 0.04 * torch.randn(fock.shape, generator=generator, dtype=fock.dtype)
        found.append((fock + noise + noise.mT).requires_grad_())
    return found


def alone(layer, fock):
    """Energy, mean squares, estimate and gap of one molecule."""
    dm = layer.density(fock)
    energy, built = layer(dm)
    off = layer.x.mT @ (fock - built) @ layer.x
    norm = layer.commutator(built, dm).square().sum()
    pairs = 2 * layer.orbital_pairs * layer.per_orbital**2
    at = dm.detach(), built.detach(), float(energy.detach())
    estimate = certify(layer, *at, coupled=False).energy_error_estimate
    gap = smallest_gap(layer.orbitals(fock.detach()).mo_energy, layer.nelec)
    return energy, off.square().mean(), norm / pairs, estimate, gap


def weighed(energy, off, commutator):
    return 0.7 * energy + 3.0 * off.sqrt() + 2.0 * commutator.sqrt()


@pytest.mark.parametrize("unrestricted", [False, True])
@pytest.mark.parametrize("xc", ["pbe", "b3lyp"])
def test_numbers_and_gradients_are_those_of_each_alone(xc, unrestricted):
    own = layers(xc, unrestricted=unrestricted)
    focks = matrices(own)
    wanted = [alone(*one) for one in zip(own, focks, strict=True)]
    total = sum(weighed(*one[:3]) for one in wanted)
    slopes = torch.autograd.grad(total, focks)
    before = [one.fock_builds for one in own]
    stacks = rebuilt(KSBatch(own, strategy="padded"), focks)
    assert [one.members for one in stacks] == [[0, 2, 1]]
    numbers = [(s.energy, s.residual, s.commutator, s.estimate, s.gap) for s in stacks]
    for stack, columns in zip(stacks, numbers, strict=True):
        assert stack.sound.tolist() == [1.0] * len(stack.members)
        for k, *found in zip(stack.members, *columns, strict=True):
            pairs = zip(found, wanted[k], strict=True)
            for one, other in pairs:
                expected = torch.as_tensor(other, dtype=one.dtype)
                torch.testing.assert_close(one, expected, rtol=1e-8, atol=1e-10)
    found = sum(weighed(*columns[:3]).sum() for columns in numbers)
    grads = torch.autograd.grad(found, focks)
    for grad, slope in zip(grads, slopes, strict=True):
        torch.testing.assert_close(grad, 0.5 * (slope + slope.mT), rtol=1e-7, atol=1e-9)
    # a build and a response
    assert [one.fock_builds - n for one, n in zip(own, before, strict=True)] == [2, 2, 2]


def test_levels_of_one_energy_are_filled_evenly():
    """A hydrogen atom's frontier level in a closed shell of two: half of each of two orbitals."""
    (own,) = layers("pbe", unrestricted=False)[:1]
    own.degeneracy_tol = 1e3
    (fock,) = matrices([own])
    (stack,) = rebuilt(KSBatch([own], strategy="padded"), [fock])
    wanted = alone(own, fock)
    assert float(stack.estimate) == pytest.approx(wanted[3], rel=1e-8)
    assert float(stack.commutator.detach()) == pytest.approx(float(wanted[2].detach()), rel=1e-8)


def test_one_that_fails_does_not_reach_the_others():
    own = layers("pbe", unrestricted=False)
    focks = matrices(own)
    healthy = rebuilt(KSBatch(own, strategy="padded"), focks)[0]
    slopes = torch.autograd.grad(healthy.residual[:1].sum(), focks[:1])
    own[1].data = dataclasses.replace(own[1].data, hcore=own[1].data.hcore * math.nan)
    broken = focks[2].detach().clone()
    broken[0, 1, 1] = math.inf
    given = [*focks[:2], broken.requires_grad_()]
    (stack,) = rebuilt(KSBatch(own, strategy="padded"), given)
    torch.testing.assert_close(stack.sound, torch.tensor([1.0, math.nan, 0.0]).double(),
                               equal_nan=True)  # fmt: skip
    assert torch.equal(stack.energy[0], healthy.energy[0])
    total = (stack.residual + stack.energy + stack.commutator).masked_fill(stack.sound != 1, 0.0)
    grads = torch.autograd.grad(total.sum(), given, retain_graph=True)
    assert all(bool((one == 0).all()) for one in grads[1:])
    (found,) = torch.autograd.grad(stack.residual[0], given[:1])
    torch.testing.assert_close(found, slopes[0])


def test_a_smeared_molecule_is_refused():
    (own,) = layers("pbe", unrestricted=False)[:1]
    own.smearing = 0.01
    with pytest.raises(InputError, match="without smearing"):
        rebuilt(KSBatch([own], strategy="padded"), [own.dm_guess])


def test_a_response_that_takes_too_much_memory_is_made_in_halves(monkeypatch):
    own = layers("pbe", unrestricted=False)
    focks = matrices(own)
    batch = KSBatch(own, strategy="padded")
    (stack,) = rebuilt(batch, focks)
    slopes = torch.autograd.grad(stack.residual.sum(), focks, retain_graph=True)

    def fails(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(batch.stack(0), "response", fails)
    grads = torch.autograd.grad(stack.residual.sum(), focks)
    torch.testing.assert_close(grads, slopes)
