"""Dipole moments, ⟨S²⟩ and electron counts of matrices, against sums and against PySCF."""

import numpy as np
import pytest
import torch
from pyscf import gto, scf

from deeph_zero.ks import properties
from deeph_zero.testing import WATER

from .made_up import Blocks, ks_data, random


def symmetric(*shape, seed=0):
    a = random(*shape, seed=seed)
    return a + a.mT


@pytest.fixture(scope="module")
def molecules():
    """Water, its cation and triplet methylene, with PySCF's Hartree-Fock after two cycles."""
    out = []
    for atom, charge, spin in (
        (WATER, 0, 0),
        (WATER, 1, 1),
        ("C 0 0 .1; H .3 1 0; H 0 -.9 .4", 0, 2),
    ):
        mol = gto.M(atom=atom, basis="sto-3g", charge=charge, spin=spin, verbose=0)
        mf = (scf.UHF if spin else scf.RHF)(mol)
        mf.max_cycle = 2
        mf.kernel()
        centre = mol.atom_charges() @ mol.atom_coords() / mol.atom_charges().sum()
        with mol.with_common_orig(centre):
            dipole = torch.from_numpy(mol.intor("int1e_r"))
        nuclei = torch.from_numpy(mol.atom_charges() @ (mol.atom_coords() - centre))
        data = ks_data(
            mol.nao, ovlp=torch.from_numpy(mol.intor("int1e_ovlp")), dipole=dipole,
            nuclear_dipole=nuclei, nelec=mol.nelec, unrestricted=spin > 0,
        )  # fmt: skip
        dm = torch.from_numpy(np.asarray(mf.make_rdm1())).reshape(-1, mol.nao, mol.nao)
        out.append((mf, data, dm, centre))
    return out


def test_dipole_moments_are_pyscfs(molecules):
    for mf, data, dm, centre in molecules:
        wanted = mf.dip_moment(unit="debye", verbose=0, origin=centre)
        assert np.abs(wanted).max() > 0.2
        assert properties.dipole(data, dm).numpy() == pytest.approx(wanted, abs=1e-4)


def test_spins_are_pyscfs(molecules):
    for mf, data, dm, _ in molecules:
        wanted = mf.spin_square()[0] if mf.mol.spin else 0.0
        assert properties.spin_square(data, dm) == pytest.approx(wanted, abs=1e-10)
    assert wanted > 2.0  # a triplet, a little contaminated


def test_a_pure_state_has_its_s_times_s_plus_one():
    """Orbitals of beta that alpha fills too."""
    c = torch.linalg.qr(random(5, 5)).Q
    for n_a, n_b in ((3, 3), (3, 1), (2, 0)):
        dm = torch.stack([c[:, :n] @ c[:, :n].mT for n in (n_a, n_b)])
        s = (n_a - n_b) / 2
        data = ks_data(5, nelec=(n_a, n_b), unrestricted=True)
        assert properties.spin_square(data, dm) == pytest.approx(s * (s + 1), abs=1e-12)


@pytest.mark.parametrize("nspin", [1, 2])
def test_electrons_without_a_grid_are_the_trace(nspin):
    data = ks_data(3, ovlp=symmetric(3, 3, seed=4))
    dm = symmetric(nspin, 3, 3)
    wanted = float(torch.trace(dm.sum(0) @ data.ovlp))
    assert properties.n_electrons(data, dm) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("nspin", [1, 2])
def test_electrons_on_a_grid_are_the_quadrature(nspin):
    """Blocks of which some lack an orbital."""
    grid = Blocks(4, (5, 3, 6))
    dm = symmetric(nspin, 4, 4)
    wanted = 0.0
    for k in range(3):
        block = grid.block(k)
        index = torch.arange(4) if block.index is None else block.index
        phi = torch.zeros(len(block.weights), 4, dtype=torch.float64)
        phi[:, index] = block.ao[0]
        wanted += float(torch.einsum("g,gm,mn,gn->", block.weights, phi, dm.sum(0), phi))
    assert properties.n_electrons(ks_data(4, grid=grid), dm) == pytest.approx(wanted, rel=1e-11)
