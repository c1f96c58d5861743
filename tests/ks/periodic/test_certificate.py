"""What one build says of a crystal's density: against the converged energy."""

import numpy as np
import pytest
import torch

import deeph_zero as dz
from deeph_zero.ks.periodic.certificate import crystal_certificate, gradient_rms
from deeph_zero.ks.periodic.dielectric import Pairs, dielectric_step
from deeph_zero.ks.periodic.types import weighted_trace

CASES = {"insulator": {}, "smeared": {"smearing": 0.03}, "spins": {"unrestricted": True}}


@pytest.fixture(scope="module", params=CASES)
def solved(request, crystal):
    """Pairs of hydrogen, and a Hamiltonian beside the converged one, alike at k and -k."""
    cell = crystal("chain", mesh=[15, 17, 15])
    ks = dz.KohnSham.from_pyscf(cell, kmesh=(3, 1, 1), xc="pbe", **CASES[request.param])
    done = ks.scf(conv_tol=1e-12, conv_tol_grad=1e-8)
    assert done.converged
    even, odd = np.random.default_rng(1).normal(size=(2, ks.nspin, 1, ks.nao, ks.nao))
    phase = np.sin(2 * np.pi * ks.info.kpts.sum(-1))[:, None, None]
    noise = torch.from_numpy(
        (even + even.swapaxes(-1, -2)) + 1j * phase * (odd - odd.swapaxes(-1, -2))
    )
    fock = done.fock + 0.004 * noise.to(done.fock.dtype)
    return ks, done, fock, ks.build(ks.density(fock))


def test_estimates_come_near_the_energy_that_is_left(solved):
    ks, done, fock, built = solved
    found = crystal_certificate(ks, fock, built)
    cheap = crystal_certificate(ks, fock, built, coupled=False)
    above = found.free_energy - done.free_energy
    assert above > 2e-6
    assert found.stable
    assert found.coupled
    assert not cheap.coupled
    assert found.energy == float(built.energy)
    assert found.energy_error_estimate == pytest.approx(above, rel=0.1)
    assert abs(found.energy_error_estimate - above) < abs(cheap.energy_error_estimate - above)
    assert found.free_energy <= found.energy


def test_nothing_is_left_of_the_converged_density(solved):
    ks, done, *_ = solved
    found = crystal_certificate(ks, done.fock, ks.build(done.dm))
    assert found.energy_error_estimate < 1e-10
    assert found.orbital_gradient_rms < 1e-6


def test_the_gradient_is_that_between_filled_and_empty_orbitals(solved):
    ks, _, fock, built = solved
    bands = ks.bands(fock)
    total = count = 0.0
    for s in range(ks.nspin):
        for k, weight in enumerate(ks.data.weights.tolist()):
            c = bands.mo_coeff[s, k]
            filled = bands.filling.occ[s, k] > 1 / ks.nspin
            between = (c.mH @ built.fock[s, k] @ c)[filled][:, ~filled]
            total += weight * float(between.abs().square().sum())
            count += weight * between.numel()
    assert gradient_rms(ks, bands, built.fock) == pytest.approx((total / count) ** 0.5)


def test_pairs_are_a_root_of_the_response(solved):
    """Of independent electrons: tr(V χ V) of differences of densities, electrons kept."""
    ks, done, fock, _ = solved
    pairs, change = Pairs(ks, ks.bands(done.fock)), fock - done.fock
    step = 1e-4
    ends = [ks.density(done.fock + t * step * change) for t in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)
    along = pairs.of(change)
    torch.testing.assert_close(-pairs.density(along), slope, rtol=0, atol=1e-6)
    wanted = -float(weighted_trace(ks.data.weights, change, slope))
    assert wanted > 1e-6
    assert float(pairs.dot(along, along)) == pytest.approx(wanted, rel=1e-4)
    packed = pairs.packed(along)
    torch.testing.assert_close(pairs.unpacked(packed), along)


def test_the_dielectric_step_takes_out_most_of_the_error(solved):
    ks, done, _, built = solved
    step = dielectric_step(ks, ks.data.step_coulomb(), built.fock, built.dm)
    plain = ks.build(ks.density(built.fock)).energy - ks.entropy_energy(built.fock)
    moved = ks.build(ks.density(built.fock + step)).energy - ks.entropy_energy(built.fock + step)
    assert 0 < float(moved) - done.free_energy < 0.5 * (float(plain) - done.free_energy)
