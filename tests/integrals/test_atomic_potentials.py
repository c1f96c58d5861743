"""Screened core Hamiltonian against PySCF's superposed atomic potentials, and its symmetry."""

import numpy as np
import pytest
import scipy.linalg
import torch
from pyscf import dft, gto
from pyscf.gto import basis
from pyscf.scf import hf

from deeph_zero.ao.rotation import ao_rotation
from deeph_zero.errors import InputError
from deeph_zero.integrals import atomic_potentials
from deeph_zero.integrals.atomic_potentials import screened_core
from deeph_zero.prepared.molecule import basis_layout

MOLECULE = "O 0 0 .1; H .1 .76 .58; H .05 -.74 .61; C 1.9 .3 .2"


def _sum_of_nuclei(mol, coords, weights):
    """Σ weight · potential of a unit point charge, from PySCF."""
    total = np.zeros((mol.nao, mol.nao))
    for where, weight in zip(coords, weights, strict=True):
        with mol.with_rinv_origin(where):
            total += weight * mol.intor("int1e_rinv")
    return total


def test_it_is_pyscfs():
    mol = gto.M(atom=MOLECULE, basis="def2-svp", verbose=0)
    tables = {a: np.array(basis.load("sapgraspsmall", a)[0][1:]) for a in "OHC"}
    expected = hf.get_hcore(mol) + hf.make_sap(mol, tables)
    np.testing.assert_allclose(screened_core(mol).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_it_turns_with_the_molecule_exactly(sign):
    """No quadrature grid is in it."""
    mol = gto.M(atom=MOLECULE, basis="def2-svp", verbose=0)
    q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    rotation = torch.from_numpy(q * np.sign(np.linalg.det(q)) * sign)
    turned = mol.set_geom_(mol.atom_coords() @ rotation.numpy().T, unit="bohr", inplace=False)
    u = ao_rotation(basis_layout([mol]), [8, 1, 1, 6], rotation)
    torch.testing.assert_close(
        u @ screened_core(mol) @ u.T, screened_core(turned), rtol=0, atol=1e-10
    )


def test_an_atom_is_neutral_from_afar():
    """Its charge is screened: what a distant function feels is exponentially small."""
    mol = gto.M(atom="O 0 0 0; H 0 0 12", basis="def2-svp", spin=1, verbose=0)
    alone = gto.M(atom="H 0 0 12", basis="def2-svp", spin=1, verbose=0)
    near = screened_core(mol).numpy()[-5:, -5:]
    assert np.abs(near - screened_core(alone).numpy()).max() < 1e-3
    bare = _sum_of_nuclei(mol, [mol.atom_coord(0)], [-8])[-5:, -5:]
    assert np.abs(bare).max() > 0.3


def test_core_potentials_take_their_electrons():
    mol = gto.M(atom="H .1 .2 0; I 0 .3 1.6", basis="def2-svp", ecp={"I": "def2-svp"}, verbose=0)
    mf = dft.RKS(mol, xc="pbe").density_fit()
    mf.grids.level = 1
    mf.kernel()
    levels = scipy.linalg.eigh(screened_core(mol).numpy(), mf.get_ovlp(), eigvals_only=True)
    # unscreened they are off by 10 Eh, screened by all electrons by several
    np.testing.assert_allclose(levels[:13], mf.mo_energy[:13], rtol=0, atol=0.5)


def test_ghosts_have_no_electrons():
    mol = gto.M(atom="He 0 0 0; ghost-He 0 .4 1.5", basis="def2-svp", verbose=0)
    alone = gto.M(atom="He 0 0 0", basis="def2-svp", verbose=0)
    np.testing.assert_allclose(
        screened_core(mol)[:5, :5].numpy(), screened_core(alone).numpy(), rtol=0, atol=1e-12
    )
    empty = gto.M(atom="ghost-He 0 .4 1.5", basis="def2-svp", verbose=0)
    np.testing.assert_allclose(screened_core(empty).numpy(), hf.get_hcore(empty))


def test_an_element_without_a_table_is_named(monkeypatch):
    monkeypatch.setattr(atomic_potentials, "shells_of", lambda _name, _symbol: None)
    atomic_potentials._functions.cache_clear()
    mol = gto.M(atom="He 0 0 0", basis={"He": [[0, [1.0, 1.0]]]}, verbose=0)
    with pytest.raises(InputError, match=r"got He; use inputs='physics'"):
        screened_core(mol)
    atomic_potentials._functions.cache_clear()
