"""The matrix of superposed free atoms, and the clouds' own integrals."""

import numpy as np
import pytest
import scipy.linalg
import torch
from pyscf import dft, gto
from pyscf.scf import hf

from deeph_zero.ao.rotation import ao_rotation
from deeph_zero.integrals import atomic_clouds as module
from deeph_zero.integrals.atomic_clouds import atomic_clouds, superposed_atoms
from deeph_zero.integrals.free_atoms import background_potential, free_atom_clouds
from deeph_zero.prepared.molecule import basis_layout

MOLECULE = "O 0 0 .1; H .1 .76 .58; H .05 -.74 .61; C 1.9 .3 .2"


def mole(atom=MOLECULE, **settings):
    return gto.M(atom=atom, **({"basis": "def2-svp", "verbose": 0} | settings))


def test_it_is_the_sum_of_the_atoms_on_a_fine_grid():
    """Gaussians' potentials integrated numerically, beside the integrals."""
    mol = mole(MOLECULE, basis="sto-3g")
    grid = dft.gen_grid.Grids(mol)
    grid.level = 6
    grid.build()
    values = np.zeros(len(grid.weights))
    for k in range(mol.natm):
        atom = free_atom_clouds(mol.atom_symbol(k))
        r = np.linalg.norm(grid.coords - mol.atom_coord(k), axis=1)
        values += scipy.special.erf(np.sqrt(atom.exponents) * r[:, None]) @ atom.screening / r
    ao = mol.eval_gto("GTOval_sph", grid.coords)
    numeric = ao.T @ (ao * (values * grid.weights)[:, None])
    exact = superposed_atoms(mol).numpy() - hf.get_hcore(mol)
    exact -= background_potential() * hf.get_ovlp(mol)
    np.testing.assert_allclose(exact, numeric, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sign", [1, -1])
def test_it_turns_with_the_molecule_exactly(sign):
    mol = mole()
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    rotation = torch.from_numpy(q * np.sign(np.linalg.det(q)) * sign)
    turned = mol.set_geom_(mol.atom_coords() @ rotation.numpy().T, unit="bohr", inplace=False)
    u = ao_rotation(basis_layout([mol]), [8, 1, 1, 6], rotation)
    torch.testing.assert_close(
        u @ superposed_atoms(mol) @ u.T, superposed_atoms(turned), rtol=0, atol=1e-10
    )


def test_blocks_of_atoms_add_up(monkeypatch):
    whole = superposed_atoms(mole())
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 1)
    torch.testing.assert_close(superposed_atoms(mole()), whole, rtol=0, atol=1e-12)


def test_its_levels_are_near_those_of_kohn_sham():
    """Of an anion's core and valence, where unscreened nuclei are off by ten hartree."""
    mol = mole("I .1 .3 1.6; C 0 0 -.5; H .9 .2 -.9; H -.5 .9 -.9; H -.5 -.8 -.8",
               ecp={"I": "def2-svp"})  # fmt: skip
    mf = dft.RKS(mol, xc="pbe").density_fit()
    mf.grids.level = 1
    mf.kernel()
    n = mol.nelectron // 2
    levels = scipy.linalg.eigh(superposed_atoms(mol).numpy(), mf.get_ovlp(), eigvals_only=True)
    np.testing.assert_allclose(levels[5:n], mf.mo_energy[5:n], rtol=0, atol=0.3)


def test_ghosts_have_clouds_but_no_electrons():
    mol = mole("He 0 0 0; ghost-He 0 .4 1.5")
    clouds = atomic_clouds(mol)
    assert clouds.electrons.tolist() == pytest.approx([2, 0])
    alone = superposed_atoms(mole("He 0 0 0"))
    torch.testing.assert_close(superposed_atoms(mol)[:5, :5], alone, rtol=0, atol=1e-12)
    empty = mole("ghost-He 0 .4 1.5")
    expected = hf.get_hcore(empty) + background_potential() * hf.get_ovlp(empty)
    np.testing.assert_allclose(superposed_atoms(empty), expected)


def test_both_parts_of_the_operator_make_the_whole():
    mol = mole()
    clouds = atomic_clouds(mol, dipoles=False)
    sites = np.array([free_atom_clouds(mol.atom_symbol(k)).width for k in range(4)])
    r = np.linalg.norm(mol.atom_coords()[:, None] - mol.atom_coords(), axis=-1)
    mean = np.sqrt(sites[:, None] * sites / (sites[:, None] + sites))
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = np.where(r > 0, scipy.special.erf(mean * r) / r, 2 * mean / np.sqrt(np.pi))
    np.testing.assert_allclose(clouds.near + clouds.far, whole, rtol=0, atol=1e-10)
