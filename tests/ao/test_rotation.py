"""Conventions against PySCF: rotate, reflect, permute whole molecules and recompute."""

import numpy as np
import pytest
import torch
from pyscf import gto, scf

from deeph_zero.ao.convention import m_order, rotation_to_network_axes, to_network_axes
from deeph_zero.ao.coupling import spherical_harmonics
from deeph_zero.ao.rotation import ao_rotation, wigner_d
from deeph_zero.ao.shells import BasisLayout

ATOMS = [("O", (0.0, 0.0, 0.1)), ("C", (0.3, -1.3, 0.2)), ("H", (0.1, 0.76, 0.58))]
G_SHELL = {"H": gto.basis.parse("H S\n 0.8 1.0\nH P\n 0.6 1.0\nH G\n 0.7 1.0\n")}


def layout_of(mol):
    shells = {}
    for atom in range(mol.natm):
        ls = [
            int(mol.bas_angular(b))
            for b in mol.atom_shell_ids(atom)
            for _ in range(mol.bas_nctr(b))
        ]
        shells[int(mol.atom_charge(atom))] = tuple(ls)
    return BasisLayout.from_shells(shells)


def random_rotation(seed, sign):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return torch.tensor(q * np.sign(np.linalg.det(q)) * sign)


def molecule(basis, rotation=None, order=(0, 1, 2)):
    rotation = torch.eye(3, dtype=torch.float64) if rotation is None else rotation
    atoms = [(ATOMS[k][0], tuple(rotation.numpy() @ np.array(ATOMS[k][1]))) for k in order]
    basis = {"O": "def2-svp", "C": "def2-svp", **G_SHELL} if basis == "g" else basis
    return gto.M(atom=atoms, basis=basis, charge=1, verbose=0)


def numbers_of(mol):
    return [int(z) for z in mol.atom_charges()]


@pytest.mark.reference
@pytest.mark.parametrize("basis", ["def2-svp", "def2-tzvp", "g"])
@pytest.mark.parametrize("sign", [1, -1])
def test_one_electron_integrals_of_a_turned_molecule(basis, sign):
    rotation = random_rotation(3, sign)
    mol, turned = molecule(basis), molecule(basis, rotation)
    layout = layout_of(mol)
    assert layout.max_l == {"def2-svp": 2, "def2-tzvp": 3, "g": 4}[basis]
    u = ao_rotation(layout, numbers_of(mol), rotation)
    for name in ("int1e_ovlp", "int1e_kin", "int1e_nuc"):
        a, b = (torch.tensor(m.intor(name)) for m in (mol, turned))
        torch.testing.assert_close(u @ a @ u.T, b, rtol=0, atol=1e-11)
    # a vector operator fixes the signs that scalars leave open
    a, b = (torch.tensor(m.intor("int1e_r")) for m in (mol, turned))
    torch.testing.assert_close(
        torch.einsum("xy,mn,ynk,lk->xml", rotation, u, a, u), b, rtol=0, atol=1e-11
    )


@pytest.mark.reference
@pytest.mark.parametrize("sign", [1, -1])
def test_hartree_fock_start_of_a_turned_molecule(sign):
    rotation = random_rotation(5, sign)
    mol, turned = molecule("def2-svp"), molecule("def2-svp", rotation)
    u = ao_rotation(layout_of(mol), numbers_of(mol), rotation)
    matrices = []
    for m in (mol, turned):
        mf = scf.RHF(m)
        dm = np.asarray(mf.get_init_guess(m, "minao"))
        matrices.append((torch.tensor(dm), torch.tensor(mf.get_hcore() + mf.get_veff(m, dm))))
    for a, b in zip(*matrices, strict=True):
        assert a.abs().max() > 0.1
        torch.testing.assert_close(u @ a @ u.T, b, rtol=0, atol=1e-10)


def test_identity_and_product():
    a = rotation_to_network_axes(random_rotation(1, 1))
    b = rotation_to_network_axes(random_rotation(2, -1))
    for l in range(9):
        product = wigner_d(l, a) @ wigner_d(l, b)
        torch.testing.assert_close(wigner_d(l, a @ b), product, rtol=0, atol=1e-12)
        unit = wigner_d(l, torch.eye(3, dtype=torch.float64))
        torch.testing.assert_close(unit, torch.eye(2 * l + 1).double(), rtol=0, atol=1e-12)


def test_inversion_is_the_natural_parity():
    for l in range(5):
        d = wigner_d(l, -torch.eye(3, dtype=torch.float64))
        torch.testing.assert_close(d, (-1) ** l * torch.eye(2 * l + 1).double(), rtol=0, atol=1e-12)


@pytest.mark.reference
def test_harmonics_are_pyscf_functions():
    """AO values of one uncontracted shell per l are proportional to the network's harmonics."""
    points = torch.tensor(np.random.default_rng(0).normal(size=(20, 3)))
    points = points / points.norm(dim=1, keepdim=True)
    for l in range(5):
        mol = gto.M(atom="He 0 0 0", basis={"He": [[l, [0.9, 1.0]]]}, verbose=0)
        ao = torch.tensor(mol.eval_gto("GTOval_sph", points.numpy()))[:, list(m_order(l))]
        sh = spherical_harmonics(l, to_network_axes(points))
        factor = (ao * sh).sum() / (sh * sh).sum()
        assert factor > 0
        torch.testing.assert_close(ao, factor * sh, rtol=0, atol=1e-12)
