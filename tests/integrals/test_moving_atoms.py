"""Derivatives of integrals and of the Fock matrix along the atoms, against differences."""

import pytest
import torch
from pyscf import dft, gto

import deeph_zero as dz
from deeph_zero.errors import InputError
from deeph_zero.integrals.calculation import calculation
from deeph_zero.integrals.moving_atoms import moving_atoms

ATOMS = [("F", (0.1, 0.0, 0.2)), ("H", (0.3, 0.6, 1.6))]
STEP = 2e-3
CASES = {
    "fitted, GGA": {"xc": "pbe", "grid_level": 0},
    "four centres, range separation": {"xc": "camb3lyp", "density_fit": False, "grid_level": 0},
    "Hartree-Fock, two spins": {"xc": "hf", "unrestricted": True},
}


def molecule(atom=0, x=0, by=0.0):
    moved = [(s, tuple(c + by * (k == atom and i == x) for i, c in enumerate(xyz)))
             for k, (s, xyz) in enumerate(ATOMS)]  # fmt: skip
    return gto.M(atom=moved, basis="sto-3g", unit="Bohr", verbose=0)


def difference(matrix_of, atom, x):
    f = [matrix_of(molecule(atom, x, t * STEP)) for t in (1, -1, 2, -2)]
    return (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * STEP)


@pytest.mark.parametrize("case", CASES)
def test_the_fock_matrix_follows_at_fixed_density(case):
    settings = CASES[case]
    ks = dz.KohnSham.from_pyscf(molecule(), **settings)
    dm = ks.density(ks.build(ks.data.dm_guess).fock)
    found = moving_atoms(calculation(molecule(), **settings)).fock(dm.reshape(-1, ks.nao, ks.nao))

    def fock_of(mol):
        return dz.KohnSham.from_pyscf(mol, **settings).build(dm).fock

    for atom, x in ((0, 2), (1, 1)):
        wanted = difference(fock_of, atom, x)
        assert float(wanted.abs().max()) > 0.1
        torch.testing.assert_close(
            found.fock[atom, x].reshape(wanted.shape), wanted, rtol=0, atol=1e-6
        )


def test_overlap_and_position_follow():
    moving = moving_atoms(calculation(molecule(), xc="hf"))
    assert moving.natm == 2
    assert moving.charges.tolist() == [9.0, 1.0]
    ovlp = difference(lambda mol: torch.from_numpy(mol.intor("int1e_ovlp")), 1, 2)
    torch.testing.assert_close(moving.overlap()[1, 2], ovlp, rtol=0, atol=1e-9)
    charges = molecule().atom_charges()
    centre = charges @ molecule().atom_coords() / charges.sum()

    def position(mol):
        with mol.with_common_orig(centre):
            return torch.from_numpy(mol.intor("int1e_r"))

    wanted = difference(position, 0, 1)
    torch.testing.assert_close(moving.position()[0, 1], wanted, rtol=0, atol=1e-9)


def test_what_has_no_derivative_is_named():
    mf = dft.RKS(molecule(), xc="pbe")
    mf.get_hcore = lambda *_: 2 * molecule().intor("int1e_kin")
    with pytest.raises(InputError, match="PySCF's own integrals to differentiate"):
        moving_atoms(calculation(mf))
    mf = dft.RKS(molecule(), xc="pbe")
    mf.grids.becke_scheme = dft.gen_grid.stratmann
    with pytest.raises(InputError, match="an atomic grid with Becke's partition"):
        moving_atoms(calculation(mf))
