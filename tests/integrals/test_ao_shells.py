"""Shells of a molecule as plain numbers: evaluated, they are PySCF's orbitals."""

import numpy as np
import pytest
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.integrals.ao_shells import ao_basis, ao_shells

MOLECULES = {
    "contracted": {"atom": "O 0 0 .1; H .1 .76 .58", "basis": "def2-svp", "charge": -1},
    "general": {"atom": "C .1 0 0; H 0 .3 1", "basis": "cc-pvdz", "spin": 1},
    "f": {"atom": "O 0 0 .1; H .1 .7 .6", "basis": "def2-tzvp", "spin": 1},
    "cartesian": {"atom": "O 0 0 .1; H 0 .76 .58", "basis": "6-31g*", "cart": True, "spin": 1},
    "core": {"atom": "I 0 .3 1.6", "basis": "def2-svp", "ecp": "def2-svp", "spin": 1},
    "ghost": {"atom": "He 0 0 0; ghost-He 0 .4 1.5", "basis": "def2-svp"},
}


@pytest.mark.parametrize("name", MOLECULES)
def test_radial_parts_are_those_of_the_orbitals(name):
    """Along the line (1, 1, 1) from each centre, the s part of every shell by its own formula."""
    mol = gto.M(verbose=0, **MOLECULES[name])
    shells = ao_shells(mol)
    assert [s.atom for s in shells] == [mol.bas_atom(k) for k in range(mol.nbas)]
    assert [s.l for s in shells] == [mol.bas_angular(k) for k in range(mol.nbas)]
    assert [len(s.coefficients) for s in shells] == [mol.bas_nctr(k) for k in range(mol.nbas)]
    r = np.array([0.3, 0.9, 1.7])
    for k, shell in enumerate(shells):
        if shell.l:
            continue
        points = mol.atom_coord(shell.atom) + r[:, None] * np.full(3, 3**-0.5)
        name = "GTOval_cart" if mol.cart else "GTOval_sph"
        wanted = mol.eval_gto(name, points, shls_slice=(k, k + 1))
        gauss = np.exp(-np.outer(r**2, shell.exponents)) @ np.array(shell.coefficients).T
        np.testing.assert_allclose(gauss / np.sqrt(4 * np.pi), wanted, atol=1e-13)


@pytest.mark.parametrize("name", MOLECULES)
def test_the_basis_has_all_functions(name):
    mol = gto.M(verbose=0, **MOLECULES[name])
    basis = ao_basis(mol)
    assert (basis.nao, basis.cart) == (mol.nao, mol.cart)


def test_spinor_shells_are_refused():
    mol = gto.M(atom="He 0 0 0", basis={"He": [[1, 1, [0.8, 1.0]]]}, verbose=0)
    with pytest.raises(InputError, match="expected shells without kappa, got 1 in shell 0; use a"):
        ao_shells(mol)
