"""Superposed free atoms of crystals: their electrons, τ, and transforms of their Gaussians."""

import numpy as np
import pytest

from deeph_zero.integrals.periodic.guess import (
    _transform,
    atomic_matrices,
    free_atoms,
    superposed_density,
)


@pytest.mark.parametrize("l", [0, 1, 2, 3])
def test_transforms_are_radial_integrals(l):
    """∫ r^(2l) exp(-a r²) exp(-iG·r) d³r by quadrature."""
    r = np.linspace(0, 12, 4001)
    for g in (1e-3, 0.7, 2.3):
        wave = np.sinc(g * r / np.pi)
        wanted = 4 * np.pi * np.trapezoid(0.3 * r ** (2 * l + 2) * np.exp(-0.8 * r**2) * wave, r)
        found = _transform([(l, 0.8, 0.3)], np.array([g**2]))[0]
        assert found == pytest.approx(wanted, abs=1e-7)


def test_densities_have_the_electrons_of_their_shares(crystal):
    cell = crystal("lih", mesh=[15, 15, 15])
    shares = np.array([[0.5, 0.9], [0.5, 0.1]])
    found = superposed_density(cell, tuple(cell.mesh), shares)
    weight = cell.vol / found.shape[1]
    electrons = np.array([float(z) for z in cell.atom_charges()])
    np.testing.assert_allclose(found.sum(1) * weight, shares @ electrons, rtol=1e-4)
    assert found.min() >= 0
    once = superposed_density(cell, tuple(cell.mesh), shares[:1])
    np.testing.assert_allclose(once[0], found[0])


def test_free_atoms_are_those_of_pyscf_at_a_point(crystal):
    """Density and τ of one atom, from its Gaussians and from its density matrix."""
    cell = crystal("lih", mesh=[9, 9, 9])
    kinds = free_atoms(cell)
    shares = np.array([[0.0, 1.0]])
    dm = atomic_matrices(cell, shares, np.zeros((1, 3)))[0, 0].real
    mol = cell.to_mol()
    rest = np.array([[0.3, 0.4, -0.2], [1.0, 0.1, 0.5], [0.0, 0.0, 2.0]])
    ao = mol.eval_gto("GTOval_sph_deriv1", mol.atom_coord(1) + rest)
    square = (rest**2).sum(1)
    for kind, wanted in (
        (kinds["H"].density, np.einsum("pi,ij,pj->p", ao[0], dm, ao[0])),
        (kinds["H"].kinetic, 0.5 * np.einsum("xpi,ij,xpj->p", ao[1:], dm, ao[1:])),
    ):
        ours = sum(c * square**l * np.exp(-a * square) for l, a, c in kind)
        assert wanted.min() > 1e-4
        np.testing.assert_allclose(ours, wanted, rtol=1e-10)


def test_ghosts_have_no_electrons(crystal):
    cell = crystal("labels", mesh=[9, 9, 9])
    found = free_atoms(cell)
    assert found["C1"].density
    assert found["GHOST-H"] == ((), ())
    matrices = atomic_matrices(cell, np.ones((1, 3)), np.zeros((2, 3)))
    assert matrices.shape == (1, 2, cell.nao, cell.nao)
    start = cell.aoslice_by_atom()[2, 2]
    assert not matrices[0, 0, start:, start:].any()
    assert np.array_equal(matrices[:, 0], matrices[:, 1])
