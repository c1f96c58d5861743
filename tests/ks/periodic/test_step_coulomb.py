"""Coulomb potentials that guide an SCF: those of the mesh, of each spin by itself."""

import pytest
import torch

from deeph_zero.ks.periodic.step_coulomb import CoulombOnMesh, StepCoulomb
from deeph_zero.ks.periodic.types import weighted_trace

from .made_up import WEIGHTS, Values, bloch_matrix, density, mesh


def atoms():
    """Superposed free atoms, with rows that do not matter here."""
    rho = torch.linspace(0.1, 1, 24, dtype=torch.float64)
    return torch.stack([torch.stack([rho, -rho, rho, rho])])


@pytest.fixture
def coulomb():
    return CoulombOnMesh(Values(), WEIGHTS, mesh(), atoms)


def test_it_is_what_the_step_asks_for(coulomb):
    assert isinstance(coulomb, StepCoulomb)
    assert not isinstance(mesh(), StepCoulomb)


@pytest.mark.parametrize("nspin", [1, 2])
def test_potentials_are_the_meshs(coulomb, nspin):
    dm = bloch_matrix(nspin)
    found = coulomb(dm)
    assert found.shape == (nspin, 1, 24)
    wanted = torch.stack([mesh().coulomb(rho) for rho in density(dm)])
    torch.testing.assert_close(found[:, 0], wanted, rtol=1e-11, atol=1e-12)


def test_beside_the_atoms(coulomb):
    dm = bloch_matrix()
    wanted = mesh().coulomb(density(dm) - atoms()[:, 0])
    torch.testing.assert_close(coulomb.beside_guess(dm)[:, 0], wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("nspin", [1, 2])
def test_matrices_are_the_adjoint_of_the_density(coulomb, nspin):
    """Σ_points w v δρ = Σ_k w_k Re tr(V_k δP_k)."""
    d, v = bloch_matrix(nspin, seed=7), coulomb(bloch_matrix(nspin))
    found = coulomb.matrices(v, torch.complex128)
    torch.testing.assert_close(found, found.mH)
    wanted = mesh().weight * float((v[:, 0] * density(d)).sum())
    assert float(weighted_trace(WEIGHTS, found, d)) == pytest.approx(wanted, rel=1e-11)
