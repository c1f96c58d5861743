"""Orbital rotations: gradient and Hessian are derivatives of the energy."""

import pytest
import torch
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.response.orbital_rotation import Rotations, is_idempotent
from deeph_zero.ks.scf.iteration import gradient_norm
from deeph_zero.testing import WATER


def _layer(spin, xc="pbe"):
    atom = WATER if spin == 0 else "N 0 0 0; H .1 .2 1"
    mol = gto.M(atom=atom, spin=spin, basis="sto-3g", verbose=0)
    return KohnSham.from_pyscf(mol, xc=xc, grid_level=0).layer


def _off_convergence(ks, rng):
    """A determinant some way off the minimum, and the rotations about it."""
    fock = ks.build(ks.dm_guess).fock
    noise = 0.05 * torch.randn(fock.shape, generator=rng, dtype=torch.float64)
    orbitals = ks.orbitals(fock + noise + noise.mT, 0.0)
    dm = (orbitals.mo_coeff * orbitals.mo_occ.unsqueeze(-2)) @ orbitals.mo_coeff.mT
    built = ks.build(dm)
    return dm, built.fock, Rotations(ks, dm, built.fock)


@pytest.mark.parametrize(("spin", "xc"), [(0, "pbe"), (2, "pbe0"), (0, "tpss")])
def test_gradient_and_hessian_are_derivatives_of_the_energy(spin, xc, rng):
    ks = _layer(spin, xc)
    _, _, rotations = _off_convergence(ks, rng)
    x = torch.randn(rotations.size, generator=rng, dtype=torch.float64)
    x = x / x.norm()

    def energy(t):
        return float(ks.build(rotations.rotated(t * x)).energy)

    h = 2e-3
    first = (8 * (energy(h) - energy(-h)) - (energy(2 * h) - energy(-2 * h))) / (12 * h)
    second = (
        16 * (energy(h) + energy(-h)) - energy(2 * h) - energy(-2 * h) - 30 * energy(0)
    ) / (12 * h**2)  # fmt: skip
    assert float(rotations.gradient @ x) == pytest.approx(first, abs=1e-7)
    assert float(x @ rotations.hessian(x)) == pytest.approx(second, abs=2e-5)
    assert abs(first) > 1e-3
    assert abs(second) > 1e-1


def test_hessian_is_symmetric(rng):
    ks = _layer(2)
    _, _, rotations = _off_convergence(ks, rng)
    x, y = torch.randn(2, rotations.size, generator=rng, dtype=torch.float64)
    assert float(y @ rotations.hessian(x)) == pytest.approx(float(x @ rotations.hessian(y)))


@pytest.mark.parametrize("spin", [0, 2])
def test_a_rotation_keeps_a_determinant(spin, rng):
    ks = _layer(spin)
    dm, fock, rotations = _off_convergence(ks, rng)
    x = torch.randn(rotations.size, generator=rng, dtype=torch.float64)
    assert is_idempotent(ks, rotations.rotated(x))
    torch.testing.assert_close(rotations.rotated(0 * x), dm, atol=1e-10, rtol=0)
    assert not is_idempotent(ks, 0.9 * dm)
    assert not is_idempotent(ks, ks.dm_guess)
    # the gradient's norm is PySCF's, up to the factor between dE/dx and its convention
    want = gradient_norm(ks.commutator(fock, dm))
    assert float(rotations.gradient.norm()) / 2 == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("spin", [0, 2])
def test_orbitals_rebuild_the_density(spin, rng):
    ks = _layer(spin)
    dm, fock, rotations = _off_convergence(ks, rng)
    energy, coeff, occ = rotations.orbitals()
    torch.testing.assert_close((coeff * occ.unsqueeze(-2)) @ coeff.mT, dm, atol=1e-9, rtol=0)
    assert bool((energy.diff() >= 0).all())
    diagonal = (coeff.mT @ fock @ coeff).diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(diagonal, energy, atol=1e-9, rtol=0)


def test_fractional_occupations_are_refused():
    ks = _layer(0)
    dm = ks.dm_guess
    with pytest.raises(InputError, match="integer occupations"):
        Rotations(ks, dm, ks.build(dm).fock)
