"""What one build says of a crystal's density: against the converged energy."""

import pytest

from deeph_zero.ks.periodic.certificate import crystal_certificate, gradient_rms


def test_estimates_come_near_the_energy_that_is_left(beside):
    ks, done, fock, built = beside
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


def test_nothing_is_left_of_the_converged_density(beside):
    ks, done, *_ = beside
    found = crystal_certificate(ks, done.fock, ks.build(done.dm))
    assert found.energy_error_estimate < 1e-10
    assert found.orbital_gradient_rms < 1e-6


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
