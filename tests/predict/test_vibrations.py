"""Second derivatives of the energy, analytic or by differences, and what follows of them."""

import numpy as np
import pytest
from pyscf import dft, gto
from pyscf.data import nist

from deeph_zero.kohnsham import KohnSham
from deeph_zero.predict import vibrations

COORDS = np.array([[0.1, 0, 0.2], [0.4, 0.5, 3.1]])


def _mean_field():
    atoms = list(zip(("Li", "H"), COORDS, strict=True))
    mol = gto.M(atom=atoms, unit="bohr", basis="sto-3g", verbose=0)
    mf = dft.RKS(mol, xc="lda,vwn").density_fit()
    mf.grids.level = 1
    mf.conv_tol = 1e-11
    return mf


def test_differences_of_forces_are_the_second_derivatives():
    mf = _mean_field()
    ks = KohnSham.from_pyscf(mf)
    state = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-8)
    analytic = vibrations.hessian(mf, ks, state)
    spent = ks.fock_builds
    by_differences = vibrations._by_differences(mf, ks, state)
    assert ks.fock_builds > spent
    # PySCF's second derivatives leave out what moves with the grid
    np.testing.assert_allclose(by_differences, analytic, atol=2e-3)
    # two-point differences leave fourth derivatives times STEP²
    assert np.abs(by_differences.sum(1)).max() < vibrations.STEP**2


def test_a_molecule_without_beta_electrons_vibrates():
    """PySCF's second derivatives want electrons of both spins; its energies do not."""
    mol = gto.M(atom="H 0 0 0; H 0 0.2 1.0", charge=1, spin=1, basis="sto-3g", verbose=0)
    mf = dft.UKS(mol, xc="lda,vwn").density_fit()
    mf.grids.level = 1
    ks = KohnSham.from_pyscf(mf)
    second = vibrations.hessian(mf, ks, ks.scf(conv_tol=1e-11, conv_tol_grad=1e-8))
    step, energies = 0.01, []
    for by in (-step, 0.0, step):
        coords = mol.atom_coords()
        coords[1, 2] += by
        there = mf.copy().reset(mol.set_geom_(coords, unit="bohr", inplace=False))
        energies.append(float(KohnSham.from_pyscf(there).scf(conv_tol=1e-12).energy))
    curvature = (energies[0] - 2 * energies[1] + energies[2]) / step**2
    # fourth derivatives times the squares of both steps
    assert second[1, 1, 2, 2] == pytest.approx(curvature, abs=2e-4)
    np.testing.assert_allclose(second[0, 1], -second[1, 1], atol=1e-4)


def test_a_spring_has_its_frequency_and_its_intensity(monkeypatch):
    """ω² = k / μ; the dipole changes by the difference of the charges along the bond."""
    mf = _mean_field()
    ks = KohnSham.from_pyscf(mf)
    bond = COORDS[1] - COORDS[0]
    bond /= np.linalg.norm(bond)
    k, charge = 0.08, 0.6
    spring = k * np.einsum("ab,x,y->abxy", np.array([[1, -1], [-1, 1]]), bond, bond)
    monkeypatch.setattr(vibrations, "hessian", lambda *_: spring)
    slopes = np.stack([charge * np.eye(3), -charge * np.eye(3)])
    found = vibrations.vibrations(mf, ks, ks.scf(max_cycle=1), slopes)
    masses = mf.mol.atom_mass_list(isotope_avg=True)
    reduced = masses.prod() / masses.sum()
    in_electrons = reduced * nist.ATOMIC_MASS / nist.E_MASS
    assert found.frequencies == pytest.approx([np.sqrt(k / in_electrons) * 219474.631], rel=1e-5)
    assert found.intensities == pytest.approx([974.88 * charge**2 / reduced], rel=1e-4)
    (mode,) = found.modes
    np.testing.assert_allclose(masses @ mode, 0.0, atol=1e-9)
    np.testing.assert_allclose(np.cross(mode, bond), 0.0, atol=1e-9)


def test_a_hill_has_an_imaginary_frequency(monkeypatch):
    mf = _mean_field()
    ks = KohnSham.from_pyscf(mf)
    bond = COORDS[1] - COORDS[0]
    spring = -0.02 * np.einsum("ab,x,y->abxy", np.array([[1, -1], [-1, 1]]), bond, bond)
    monkeypatch.setattr(vibrations, "hessian", lambda *_: spring)
    found = vibrations.vibrations(mf, ks, ks.scf(max_cycle=1), np.zeros((2, 3, 3)))
    assert found.frequencies[0] < -100.0
    assert found.intensities.tolist() == [0.0]


def test_an_atom_does_not_vibrate():
    mol = gto.M(atom="He", basis="sto-3g", verbose=0)
    mf = dft.RKS(mol, xc="lda,vwn")
    ks = KohnSham.from_pyscf(mf)
    state = ks.scf()
    found = vibrations.vibrations(mf, ks, state, np.zeros((1, 3, 3)))
    assert found.frequencies.shape == found.intensities.shape == (0,)
