"""One-electron matrices against PySCF."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto, scf
from pyscf.scf import hf

from deeph_zero.integrals.one_electron import charge_centre, lindep_threshold, one_electron
from deeph_zero.testing import WATER

MOLECULES = {
    "water": {"atom": WATER, "basis": "def2-svp"},
    "ecp": {"atom": "H .1 .2 0; I 0 .3 1.6", "basis": "def2-svp", "ecp": "def2-svp"},
    "cart": {"atom": "O 0 0 .1; H 0 .76 .58", "basis": "6-31g*", "cart": True, "charge": -1},
    "ghost": {"atom": "He 0 0 0; ghost-He 0 .4 1.5", "basis": "def2-svp"},
    "f": {"atom": "O 0 0 .1; H .1 .7 .6", "basis": "def2-tzvp", "spin": 1},
    "atom": {"atom": "H .3 .1 .2", "basis": "def2-svp", "spin": 1},
}


@pytest.fixture(params=MOLECULES)
def mol(request):
    return gto.M(verbose=0, **MOLECULES[request.param])


def test_matrices_are_pyscfs(mol):
    one = one_electron(mol)
    mf = scf.UHF(mol)
    assert np.array_equal(one.ovlp.numpy(), mf.get_ovlp())
    assert np.array_equal(one.hcore.numpy(), mf.get_hcore())
    assert one.e_nuc == mol.energy_nuc()
    for tensor in (one.ovlp, one.hcore, one.dipole, one.nuclear_dipole):
        assert tensor.dtype == torch.float64
        assert tensor.is_contiguous()


def test_dipole_moment_is_pyscfs_about_the_charge_centre(mol):
    one = one_electron(mol)
    dm = np.asarray(hf.init_guess_by_minao(mol))
    ours = one.nuclear_dipole.numpy() - np.einsum("xij,ji->x", one.dipole.numpy(), dm)
    reference = hf.dip_moment(mol, dm, unit="AU", verbose=0, origin=charge_centre(mol))
    np.testing.assert_allclose(ours, reference, atol=1e-12)
    np.testing.assert_allclose(one.nuclear_dipole.numpy(), 0, atol=1e-12)


def test_centre_uses_valence_charges_and_skips_ghosts():
    hi = gto.M(atom="H 0 0 0; I 0 0 26", unit="B", basis="def2-svp", ecp="def2-svp", verbose=0)
    np.testing.assert_allclose(charge_centre(hi), [0, 0, 25.0])
    ghost = gto.M(atom="He 0 0 0; ghost-He 0 0 2", unit="B", basis="def2-svp", verbose=0)
    np.testing.assert_allclose(charge_centre(ghost), [0, 0, 0])


def test_ghosts_alone_have_a_centre():
    mol = gto.M(atom="ghost-He 0 0 2", unit="B", basis="def2-svp", verbose=0)
    one = one_electron(mol)
    np.testing.assert_allclose(one.centre.numpy(), [0, 0, 2])
    assert one.nuclear_dipole.tolist() == [0, 0, 0]


def test_lindep_threshold_is_what_the_scf_drops():
    # diffuse functions on close centres: PySCF itself drops orbitals, and so must we
    mol = gto.M(
        atom="H 0 0 0; H 0 0 .5; ghost-H 0 0.05 .25; ghost-H 0 0 .3",
        basis="aug-cc-pvdz",
        verbose=0,
    )
    mf = dft.RKS(mol, xc="pbe")
    x = mf.check_linear_dependency(mf.get_ovlp())
    eigenvalues = np.linalg.eigvalsh(one_electron(mol).ovlp.numpy())
    assert x.shape[1] < mol.nao_nr()
    assert (eigenvalues > lindep_threshold()).sum() == x.shape[1]


def test_lindep_threshold_follows_pyscfs_switch(monkeypatch):
    assert lindep_threshold() == hf.overlap_zero_eigenvalue_threshold
    monkeypatch.setattr(hf, "remove_overlap_zero_eigenvalue", False)
    assert lindep_threshold() == 0
