"""Integrals of a uniform electric field against PySCF's dipole integrals."""

import numpy as np
import pytest
import torch
from pyscf import gto, scf

from deeph_zero.errors import InputError
from deeph_zero.integrals.field import electric_field
from deeph_zero.ks.terms.term import Density

MOLECULES = {
    "ion": {"atom": "O 0 0 .1; H .1 .76 .58", "basis": "sto-3g", "charge": -1},
    "core": {"atom": "H .1 .2 0; I 0 .3 1.6", "basis": "def2-svp", "ecp": "def2-svp"},
    "ghost": {"atom": "He 0 0 .2; ghost-He 0 .4 1.5", "basis": "sto-3g"},
}
FIELD = (0.01, -0.02, 0.005)


@pytest.mark.parametrize("name", MOLECULES)
def test_the_energy_is_minus_the_dipole_moment(name):
    mol = gto.M(verbose=0, **MOLECULES[name])
    rng = np.random.default_rng(0)
    dm = rng.normal(size=(mol.nao, mol.nao))
    dm += dm.T
    found = electric_field(mol, FIELD).energy_and_fock(Density(torch.from_numpy(dm)[None]))
    # about the coordinates' origin, in atomic units
    dipole = scf.hf.dip_moment(mol, dm, unit="AU", origin=np.zeros(3), verbose=0)
    assert float(found.energy) == pytest.approx(-np.dot(FIELD, dipole), abs=1e-12)
    with mol.with_common_orig((0, 0, 0)):
        position = np.einsum("x,xij->ij", FIELD, mol.intor("int1e_r"))
    np.testing.assert_allclose(found.fock[0], position, atol=1e-14)


def test_the_origin_does_not_depend_on_the_molecules_own():
    mol = gto.M(verbose=0, **MOLECULES["ion"])
    one = electric_field(mol, FIELD)._position
    with mol.with_common_orig((3.0, 1.0, -2.0)):
        other = electric_field(mol, FIELD)._position
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    "field", [None, "x", 0.1, (0.1, 0.2), np.eye(3), (0, 0, np.nan), [1j, 0, 0]]
)
def test_what_is_no_field(field):
    mol = gto.M(verbose=0, **MOLECULES["ghost"])
    with pytest.raises(InputError, match="field expected three finite numbers"):
        electric_field(mol, field)
