"""The certificate: sign, prefactor and normalisation, closed shell and UKS, against true errors."""

import dataclasses

import numpy as np
import pytest
import torch
from pyscf import gto

from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.response.quadratic import nodes, response_share, semicanonical
from deeph_zero.testing import WATER

NO2 = "N 0.01 0 0; O 0.02 1.1 0.46; O -0.03 -1.12 0.43"


def layer(atom, xc, charge=0, spin=0, basis="6-31g"):
    mol = gto.M(atom=atom, charge=charge, spin=spin, basis=basis, verbose=0)
    return KohnSham.from_pyscf(mol, xc=xc, grid_level=1, two_grids=False)


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
    ks = KohnSham(data, full.info)
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


def newton_equations(ks, dm, fock):
    """Weights, gradient, D and full Hessian of the rotations, from energies and Fock matrices.

    The Hessian's columns are central differences of the gradient F_pq in the orbitals that
    exp(hX) turns: nothing of the response build or of the certificate enters.
    """
    coeff, occ, f_mo = semicanonical(ks.layer, ks.to_layer(dm), ks.to_layer(fock))
    spins, rows, columns = torch.nonzero(occ.unsqueeze(-1) > occ.unsqueeze(-2), as_tuple=True)
    level = torch.diagonal(f_mo, dim1=-2, dim2=-1)
    d = level[spins, columns] - level[spins, rows]
    weight = occ[spins, rows] - occ[spins, columns]

    def gradient(k, size):
        x = torch.zeros_like(f_mo)
        x[spins[k], rows[k], columns[k]] = size
        turned = coeff @ torch.linalg.matrix_exp(x.mT - x)
        there = (turned * occ.unsqueeze(-2)) @ turned.mT
        f = turned.mT @ ks.layer.build(there).fock @ turned
        return f[spins, rows, columns]

    h = 1e-4
    columns_of = [(gradient(k, h) - gradient(k, -h)) / (2 * h) for k in range(len(d))]
    return weight, f_mo[spins, rows, columns], d, torch.stack(columns_of, dim=1)


@pytest.mark.parametrize(("charge", "spin"), [(0, 0), (1, 1)], ids=["closed", "open"])
@pytest.mark.parametrize(("xc", "soft"), [("pbe", 1.0), ("pbe0", 0.9375), ("hf", 0.75)])
def test_the_estimate_is_the_two_node_rule_of_the_hessian(charge, spin, xc, soft, rng):
    ks = layer(WATER, xc, charge, spin, basis="sto-3g")
    exact = ks.scf(conv_tol=1e-12)
    # a smooth error, like a network's
    noise = torch.randn(exact.fock.shape, generator=rng, dtype=torch.float64)
    dm = ks.density(exact.fock + 3e-4 * (noise + noise.mT))
    built = ks.build(dm)
    weight, g, d, hessian = newton_equations(ks, dm, built.fock)

    x = -g / d
    y = hessian @ x / d
    share = weight * d * x * x / (weight * d * x * x).sum()
    alpha = float((share * y / x).sum())
    variance = float((share * (y / x - alpha) ** 2).sum())
    assert variance > 1e-4  # else one node would do, and this test would not see the second
    soft, stiff = nodes(alpha, variance, soft)
    cheap = float((weight * g * g / d).sum())
    got = ks.certificate(dm, built.fock, built.energy)
    want = cheap * (soft + stiff - alpha) / (soft * stiff)
    assert got.energy_error_estimate == pytest.approx(want, rel=1e-3)
    # one node is a lower bound of the whole quadratic model, and two nodes come close to it
    whole = float((weight * g) @ torch.linalg.solve(hessian, g))
    assert cheap / alpha < 0.99 * whole
    assert want == pytest.approx(whole, rel=0.06)
    assert whole == pytest.approx(float(built.energy) - exact.energy, rel=0.02)


@pytest.mark.parametrize("xc", ["pbe", "pbe0"])
@pytest.mark.parametrize(("atom", "spin"), [(WATER, 0), (NO2, 1)], ids=["water", "no2"])
@pytest.mark.parametrize("size", [1e-5, 1e-3])
def test_smooth_errors_are_estimated_closely(atom, spin, xc, size, rng):
    """Errors of a Fock matrix that respond as a network's do: energies, levels and dipole."""
    ks = layer(atom, xc, spin=spin)
    exact = ks.scf(conv_tol=1e-12, conv_tol_grad=1e-7)
    levels = [
        e[: n + 1] for e, n in zip(exact.mo_energy.reshape(-1, ks.nmo), ks.nelec, strict=False)
    ]
    want = np.concatenate([e[-2:].numpy() for e in levels])
    dipole = ks.dipole(exact.dm).numpy()
    missed = []
    for _ in range(3):
        noise = torch.randn(exact.fock.shape, generator=rng, dtype=torch.float64)
        dm = ks.density(exact.fock + size * ks.data.ovlp @ (noise + noise.mT) @ ks.data.ovlp)
        built = ks.build(dm)
        got = ks.certificate(dm, built.fock, built.energy)
        error = float(built.energy) - exact.energy
        assert error > 2e-9
        assert got.energy_error_estimate == pytest.approx(error, rel=0.15)
        raw, better = (
            np.stack([np.atleast_1d(getattr(got, n + end)) for n in ("homo", "lumo")], -1).ravel()
            for end in ("", "_estimate")
        )
        off = ks.dipole(dm).numpy() - dipole
        moved = off + np.asarray(got.dipole_change)
        found = [np.abs(better - want).sum(), np.abs(raw - want).sum()]
        missed.append([*found, np.linalg.norm(moved), np.linalg.norm(off)])
    level, raw_level, moment, raw_moment = np.sum(missed, axis=0)
    assert level < 0.6 * raw_level
    assert moment < 0.7 * raw_moment


@pytest.mark.parametrize("xc", ["pbe", "pbe0"])
@pytest.mark.parametrize(
    ("atom", "charge", "spin"),
    [(WATER, 0, 0), (WATER, 1, 1), (NO2, 0, 1)],
    ids=["h2o", "ion", "no2"],
)
def test_a_poor_density_is_estimated_within_a_factor_two(atom, charge, spin, xc):
    """One diagonalisation from superposed atoms: a tenth of a hartree too high."""
    ks = layer(atom, xc, charge, spin)
    dm = ks.density(ks.build(ks.data.dm_guess).fock)
    built = ks.build(dm)
    error = float(built.energy) - ks.scf(conv_tol=1e-10).energy
    assert error > 0.03
    got = ks.certificate(dm, built.fock, built.energy)
    assert got.stable
    assert got.energy_error_estimate == pytest.approx(error, rel=0.3)
    cheap = ks.certificate(dm, built.fock, built.energy, coupled=False)
    assert not cheap.coupled
    assert cheap.homo_estimate is None
    assert cheap.energy_error_estimate > 1.7 * error  # charge moves: the response matters


@pytest.mark.parametrize("soft", [1.0, 0.75])
@pytest.mark.parametrize("alpha", [0.3, 0.76, 1.001, 2.5, 40.0])
@pytest.mark.parametrize("variance", [0.0, 0.05, 3.0])
def test_the_two_nodes_reproduce_the_moments(alpha, variance, soft):
    low, high = nodes(alpha, variance, soft)
    assert 0 < low < alpha <= high
    share = (alpha - low) / (high - low) if high > low else 1.0
    assert (1 - share) * low + share * high == pytest.approx(alpha)
    spread = (1 - share) * (low - alpha) ** 2 + share * (high - alpha) ** 2
    assert spread == pytest.approx(variance, abs=1e-12)
    assert 0.999 / high < response_share(alpha, low, high) < 1.001 / low
    if alpha > soft + 0.5:
        assert low == pytest.approx(soft)


@pytest.mark.parametrize(("charge", "spin"), [(0, 0), (1, 1)], ids=["closed", "open"])
def test_wrong_occupied_orbitals_are_noticed(charge, spin):
    ks = layer(WATER, "pbe", charge, spin)
    exact = ks.scf(conv_tol=1e-11)
    assert ks.certificate(exact.dm, exact.fock, exact.energy).aufbau
    coeff = exact.mo_coeff.clone().reshape(-1, ks.nao, ks.nmo)
    n = ks.nelec[0]
    swap = [n - 2, n]
    coeff[0][:, swap] = coeff[0][:, swap[::-1]]
    dm = ((coeff * exact.mo_occ.reshape(-1, 1, ks.nmo)) @ coeff.mT).reshape(exact.dm.shape)
    built = ks.build(dm)
    assert float(built.energy) - exact.energy > 0.1
    assert not ks.certificate(dm, built.fock, built.energy).aufbau


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
