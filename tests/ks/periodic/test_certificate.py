"""What one build says of a crystal's density: against the converged energy."""

from typing import Any

import pytest
import torch

import deeph_zero as dz
from deeph_zero.ks.periodic.certificate import crystal_certificate, gradient_rms


def test_estimates_come_near_the_energy_that_is_left(beside):
    ks, done, fock, built = beside
    found = crystal_certificate(ks, fock, built)
    cheap = crystal_certificate(ks, fock, built, coupled=False)
    above = found.free_energy - done.free_energy
    assert above > 2e-6
    assert found.stable
    assert found.coupled
    assert found.doubts == cheap.doubts == ()
    assert found.coarse_builds == 0
    assert not cheap.coupled
    assert found.energy == float(built.energy)
    assert found.energy_error_estimate == pytest.approx(above, rel=0.1)
    assert abs(found.energy_error_estimate - above) < abs(cheap.energy_error_estimate - above)
    assert found.free_energy <= found.energy


def test_nothing_is_left_of_the_converged_density(beside):
    ks, done, *_ = beside
    found = crystal_certificate(ks, done.fock, ks.build(done.dm))
    assert found.energy_error_estimate < 1e-10
    assert found.orbital_gradient_rms < 1e-6
    assert found.doubts == ()


def test_the_gradient_is_that_between_filled_and_empty_orbitals(beside):
    ks, _, fock, built = beside
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


def pushed(fock, by):
    """A Hamiltonian that draws the electrons of the chain to one of its atoms: levels cross."""
    return fock + by * torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64)).to(fock.dtype)


@pytest.mark.parametrize("coupled", [True, False])
def test_an_estimate_that_is_far_too_small_says_so(beside, coupled):
    ks, done, *_ = beside  # its coarse mesh loses electrons, and is of no use
    fock = pushed(done.fock, 0.3)
    found = crystal_certificate(ks, fock, ks.build(ks.density(fock)), coupled=coupled)
    assert found.energy_error_estimate < 0.3 * (found.free_energy - done.free_energy)
    assert any("levels cross" in doubt for doubt in found.doubts)


def test_what_is_left_after_the_step_says_so(beside):
    ks, done, fock, _ = beside
    fock = done.fock + 25 * (fock - done.fock)
    found = crystal_certificate(ks, fock, ks.build(ks.density(fock)))
    assert found.energy_error_estimate < 0.2 * (found.free_energy - done.free_energy)
    assert "lower bound" in found.doubts[0]


def test_a_coarse_mesh_finds_how_far_a_far_density_is(crystal):
    cell = crystal("chain", mesh=[27, 30, 27])
    ks: Any = dz.KohnSham.from_pyscf(cell, kmesh=(3, 1, 1), xc="pbe", smearing=0.03)
    done = ks.scf(conv_tol=1e-9)
    fock = pushed(done.fock, 0.3)
    built = ks.build(ks.density(fock))
    before = ks.fock_builds
    found = crystal_certificate(ks, fock, built)
    assert found.energy_error_estimate == pytest.approx(
        found.free_energy - done.free_energy, rel=0.01
    )
    assert found.doubts == ()
    assert found.stable
    assert 2 < found.coarse_builds < 20
    assert ks.fock_builds == before + 1
