"""Fermi smearing: occupations, and both derivatives of density and entropy."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.scf import addons

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.smearing import (
    chemical_potential,
    fermi,
    first_difference,
    smeared_density,
    smeared_occupations,
)

LEVELS = {
    "spread": [-1.0, -0.5, -0.1, 0.05, 0.7],
    "degenerate frontier": [-0.8, -0.2, -0.2, -0.2, 0.5],
    "all equal": [-0.3, -0.3, -0.3, -0.3, -0.3],
    "nearly degenerate": [-0.8, -0.2, -0.2 + 1e-7, 0.1, 0.1 - 1e-9],
}


def _matrix(levels, seed=3):
    generator = torch.Generator().manual_seed(seed)
    n = len(levels)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return (q * torch.tensor(levels, dtype=torch.float64)) @ q.mT


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("width", [0.02, 0.3])
def test_density_has_the_electrons_and_the_function(levels, width):
    fock = _matrix(LEVELS[levels])
    dm, ts = smeared_density(fock, 2, width)
    assert float(dm.trace()) == pytest.approx(2, abs=1e-12)
    energy, u = np.linalg.eigh(fock.numpy())
    mu = chemical_potential(torch.from_numpy(energy), 2, width)
    f = 1 / (1 + np.exp((energy - mu) / width))
    np.testing.assert_allclose(dm.numpy(), (u * f) @ u.T, atol=1e-11)
    entropy = -np.sum(f * np.log(f) + (1 - f) * np.log1p(-f))
    assert float(ts) == pytest.approx(width * entropy, abs=1e-11)
    occ, again = smeared_occupations(torch.from_numpy(np.stack([energy, energy])), (2, 2), width)
    np.testing.assert_allclose(occ.numpy(), [f, f], atol=1e-12)
    assert again == pytest.approx(2 * width * entropy, abs=1e-11)
    closed, same = smeared_occupations(torch.from_numpy(energy)[None], (2, 2), width)
    np.testing.assert_allclose(closed.numpy(), 2 * f[None], atol=1e-12)
    assert same == pytest.approx(again)


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("which", [0, 1], ids=["density", "entropy"])
def test_first_and_second_derivatives(levels, which):
    fock = _matrix(LEVELS[levels]).requires_grad_()

    def function(f):
        return smeared_density(0.5 * (f + f.mT), 2, 0.1)[which]

    assert torch.autograd.gradcheck(function, (fock,), atol=1e-7)
    assert torch.autograd.gradgradcheck(function, (fock,), atol=1e-6)
    weight = _matrix([1.0, 2.0, -1.0, 0.5, 3.0], seed=5) if which == 0 else 1.0
    (gradient,) = torch.autograd.grad((weight * function(fock)).sum(), fock)
    if not (levels == "all equal" and which == 1):  # the entropy is at its maximum there
        assert float(gradient.norm()) > 1e-3


def test_the_chemical_potential_responds():
    """Shifting every level changes nothing; without the response it would."""
    fock = _matrix(LEVELS["degenerate frontier"]).requires_grad_()
    dm, _ = smeared_density(fock, 2, 0.1)
    weight = _matrix([1.0, 2.0, -1.0, 0.5, 3.0], seed=5)
    (gradient,) = torch.autograd.grad((weight * dm).sum(), fock)
    assert float(gradient.trace()) == pytest.approx(0, abs=1e-12)
    assert float(gradient.norm()) > 0.1


def test_the_closed_formula_of_the_first_derivative():
    """From each diagonal term f'_p (Σ f'_q G_qq) / Σ f'_q is subtracted."""
    fock = _matrix(LEVELS["degenerate frontier"]).requires_grad_()
    weight = _matrix([1.0, 2.0, -1.0, 0.5, 3.0], seed=5)
    dm, _ = smeared_density(fock, 2, 0.1)
    (gradient,) = torch.autograd.grad((weight * dm).sum(), fock)
    energy, u = torch.linalg.eigh(fock.detach())
    x = energy - chemical_potential(energy, 2, 0.1)
    g = u.mT @ weight @ u
    slope = -fermi(x, 0.1) * (1 - fermi(x, 0.1)) / 0.1
    want = first_difference(x, 0.1) * g
    want = want - torch.diag(slope * (slope @ g.diagonal()) / slope.sum())
    torch.testing.assert_close(u.mT @ gradient @ u, want, atol=1e-12, rtol=0)


def test_narrow_smearing_is_aufbau():
    occ, ts = smeared_occupations(torch.tensor([LEVELS["spread"]]).double(), (2, 2), 1e-4)
    np.testing.assert_allclose(occ.numpy(), [[2, 2, 0, 0, 0]], atol=1e-12)
    assert ts == pytest.approx(0, abs=1e-12)


def test_a_channel_without_electrons_is_empty():
    energy = torch.tensor([LEVELS["spread"]] * 2).double()
    occ, _ = smeared_occupations(energy, (1, 0), 0.1)
    assert float(occ[1].abs().max()) == 0
    dm, ts = smeared_density(_matrix(LEVELS["spread"]), 0, 0.1)
    assert float(dm.abs().max()) == float(ts) == 0


def test_too_many_electrons_are_refused():
    with pytest.raises(InputError, match="got 5 in 5"):
        smeared_occupations(torch.tensor([LEVELS["spread"]]).double(), (5, 5), 0.1)


@pytest.mark.reference
@pytest.mark.parametrize(("atom", "spin"), [("O 0 0 0; O .1 0 1.21", 0), ("O 0 0 0; H .1 0 1", 1)])
def test_scf_gives_pyscfs_free_energy(atom, spin):
    mol = gto.M(atom=atom, spin=spin, basis="6-31g", verbose=0)
    mf = (dft.UKS if spin else dft.RKS)(mol, xc="pbe").density_fit()
    mf.grids.level = 0
    mf = addons.smearing(mf, sigma=0.02, method="fermi", fix_spin=True)
    mf.conv_tol = 1e-10
    mf.kernel()
    ks = KohnSham.from_pyscf(mol, xc="pbe", grid_level=0, smearing=0.02)
    result = ks.scf(conv_tol=1e-10)
    assert result.converged
    assert result.free_energy == pytest.approx(mf.e_free, abs=1e-7)
    assert result.energy == pytest.approx(mf.e_tot, abs=1e-6)
    assert result.entropy_energy > 1e-3
    occupied = np.asarray(mf.mo_occ)
    np.testing.assert_allclose(result.mo_occ.numpy(), occupied, atol=1e-4)


@pytest.mark.parametrize("spin", [0, 2])
def test_the_free_energy_is_stationary_in_the_layer(spin):
    mol = gto.M(atom="O 0 0 0; O .1 0 1.21", spin=spin, basis="sto-3g", verbose=0)
    ks = KohnSham.from_pyscf(mol, grid_level=0, smearing=0.03)

    def gradient(fock):
        fock = fock.clone().requires_grad_()
        dm = ks.density(fock)
        assert ks.n_electrons(dm.detach()) == pytest.approx(16, abs=0.05)
        energy, _ = ks(dm)
        (free,) = torch.autograd.grad(energy - ks.entropy_energy(fock), fock, retain_graph=True)
        (plain,) = torch.autograd.grad(energy, fock)
        return float(free.abs().max()), float(plain.abs().max())

    converged = ks.scf(conv_tol=1e-12, conv_tol_grad=1e-7)
    assert converged.converged
    free, plain = gradient(converged.fock)
    assert free < 1e-6
    assert plain > 1e-4  # the energy alone is not
    start = ks.build(ks.data.dm_guess).fock
    assert gradient(start)[0] > 1e-3
