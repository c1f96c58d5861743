"""The certificate: sign, prefactor and normalisation, closed shell and UKS, against true errors."""

import dataclasses

import pytest
import torch
from pyscf import gto

from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.layer import KohnShamLayer

WATER = "O 0 0 .1; H 0 .76 .58; H .05 -.74 .61"
NO2 = "N 0.01 0 0; O 0.02 1.1 0.46; O -0.03 -1.12 0.43"


def layer(atom, xc, charge=0, spin=0, basis="6-31g"):
    mol = gto.M(atom=atom, charge=charge, spin=spin, basis=basis, verbose=0)
    return KohnSham.from_pyscf(mol, xc=xc, grid_level=1)


def rotated(ks, dm, size, rng):
    """dm with its occupied space turned by a small random rotation."""
    n = ks.nmo
    a = size * torch.randn(*dm.shape[:-2], n, n, generator=rng, dtype=torch.float64)
    u = torch.linalg.matrix_exp(a - a.mT)
    inner = ks.x.mT @ ks.data.ovlp @ dm @ ks.data.ovlp @ ks.x
    return ks.x @ (u @ inner @ u.mT) @ ks.x.mT


class NoRepulsion:
    def coulomb(self, dm):
        return torch.zeros_like(dm)

    exchange = coulomb


@pytest.mark.parametrize(("charge", "spin"), [(0, 0), (1, 1)])
def test_without_interaction_both_estimates_are_the_exact_error(charge, spin, rng):
    """E = tr(hP) has no response: the second-order estimate is exact for small rotations."""
    full = layer(WATER, "hf", charge, spin)
    data = dataclasses.replace(full.data, coulomb=NoRepulsion(), exchange=())
    ks = KohnShamLayer(data)
    exact = ks.density(data.hcore.expand_as(data.dm_guess))
    lowest = float(ks.build(exact).energy)
    dm = rotated(ks, exact, 1e-5, rng)
    built = ks.build(dm)
    error = float(built.energy) - lowest
    assert error > 1e-9
    for coupled in (False, True):
        got = ks.certificate(dm, built.fock, built.energy, coupled=coupled)
        assert got.energy_error_estimate == pytest.approx(error, rel=1e-3)
        assert got.energy_estimate == pytest.approx(lowest, abs=1e-3 * error)


@pytest.mark.parametrize("xc", ["pbe", "pbe0"])
@pytest.mark.parametrize(("atom", "spin"), [(WATER, 0), (NO2, 1)], ids=["water", "no2"])
@pytest.mark.parametrize("size", [1e-3, 1e-2])
def test_coupled_estimate_is_within_a_factor_two_of_the_truth(atom, spin, xc, size, rng):
    ks = layer(atom, xc, spin=spin)
    exact = ks.scf(conv_tol=1e-12)
    dm = rotated(ks, exact.dm, size, rng)
    built = ks.build(dm)
    error = float(built.energy) - exact.energy
    got = ks.certificate(dm, built.fock, built.energy)
    assert got.coupled
    assert got.stable
    assert 0.5 < got.energy_error_estimate / error < 2.0


@pytest.mark.parametrize(("atom", "spin"), [(WATER, 0), (NO2, 1)], ids=["water", "no2"])
def test_coupled_estimate_is_the_minimum_of_its_quadratic_model(atom, spin, rng):
    """Along the estimated rotation the energy falls as the model says: exp(tX), differentiated."""
    ks = layer(atom, "pbe", spin=spin)
    exact = ks.scf(conv_tol=1e-12)
    dm = rotated(ks, exact.dm, 3e-3, rng)
    built = ks.build(dm)
    from deeph_zero.ks.certificate import semicanonical

    coeff, occ, f_mo = semicanonical(ks, dm, built.fock)
    df = occ.unsqueeze(-1) - occ.unsqueeze(-2)
    e = torch.diagonal(f_mo, dim1=-2, dim2=-1)
    de = e.unsqueeze(-2) - e.unsqueeze(-1)
    # the occupied orbital p moves by t X_pq along the virtual q
    x = torch.where(df > 0, -f_mo / torch.where(df > 0, de, 1.0), 0.0)

    def energy(t):
        u = torch.linalg.matrix_exp(t * (x.mT - x))
        c = coeff @ u
        turned = (c * occ.unsqueeze(-2)) @ c.mT
        return float(ks.build(turned.reshape(dm.shape)).energy)

    h = 0.02
    e0, plus, minus = energy(0.0), energy(h), energy(-h)
    assert e0 == pytest.approx(float(built.energy), abs=1e-9)
    slope, curvature = (plus - minus) / (2 * h), (plus - 2 * e0 + minus) / h**2
    assert slope < 0 < curvature
    got = ks.certificate(dm, built.fock, built.energy)
    assert got.energy_error_estimate == pytest.approx(slope**2 / (2 * curvature), rel=2e-2)


def test_converged_density_has_no_error_left():
    ks = layer(WATER, "pbe")
    exact = ks.scf(conv_tol=1e-12, conv_tol_grad=1e-7)
    got = ks.certificate(exact.dm, exact.fock, exact.energy)
    assert 0 <= got.energy_error_estimate < 1e-12
    assert got.homo == pytest.approx(float(exact.mo_energy[ks.nelec[0] - 1]))
    assert got.gap == pytest.approx(got.lumo - got.homo)


def test_one_electron_has_no_beta_levels_below_its_lumo():
    ks = layer("H 0 0 0", "pbe", spin=1)
    exact = ks.scf()
    got = ks.certificate(exact.dm, exact.fock, exact.energy)
    assert got.homo[1] is None
    assert got.gap[1] is None
    assert got.homo[0] < 0
