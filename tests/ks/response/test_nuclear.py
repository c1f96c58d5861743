"""Derivatives along the atoms against finite differences of converged states, and PySCF's eph."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from pyscf import dft, gto, scf
from pyscf.eph import rhf as eph_rhf
from pyscf.eph import rks as eph_rks
from pyscf.eph import uks as eph_uks
from pyscf.pbc import gto as pbc_gto

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.testing import WATER

HF = "H 0 0 0; F 0.1 0.2 0.9"
NH = "N 0 0 0; H 0.1 0.3 1.0"
CASES = {
    "LDA": (HF, 0, {"xc": "lda,vwn"}),
    "hybrid": (WATER, 0, {"xc": "pbe0"}),
    "meta-GGA, four-centre": (HF, 0, {"xc": "r2scan", "density_fit": False}),
    "range-separated": (HF, 0, {"xc": "camb3lyp"}),
    "short-range exchange, four-centre": (HF, 0, {"xc": "hse06", "density_fit": False}),
    "open shell GGA": (NH, 2, {"xc": "pbe"}),
    "open shell hybrid meta-GGA": (NH, 2, {"xc": "tpssh"}),
    "open shell Hartree-Fock, four-centre": (NH, 2, {"xc": "hf", "density_fit": False}),
}
STEP = 4e-3
TIGHT = {"conv_tol": 1e-12, "conv_tol_grad": 1e-9, "hint": False}


def _molecule(atom, spin=0, basis="sto-3g", **more):
    return gto.M(atom=atom, spin=spin, basis=basis, verbose=0, **more)


def _slope(values):
    """Of values at +h, -h, +2h and -2h."""
    plus, minus, plus2, minus2 = values
    return (8 * (plus - minus) - (plus2 - minus2)) / (12 * STEP)


def _dipole(mol, dm):
    """About the origin, a.u."""
    with mol.with_common_orig((0, 0, 0)):
        position = torch.from_numpy(mol.intor("int1e_r"))
    nuclei = torch.from_numpy(mol.atom_charges() @ mol.atom_coords())
    return nuclei - torch.einsum("xmn,...mn->x", position, dm)


@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_slopes_of_converged_states(case):
    atom, spin, settings = CASES[case]
    mol = _molecule(atom, spin)
    ks = KohnSham.from_pyscf(mol, grid_level=0, **settings)
    result = ks.scf(**TIGHT)
    found = ks.fock_gradient(result, atoms=[1])
    dipoles = ks.dipole_derivatives(result)
    assert found.fock.shape == (1, 3, *result.fock.shape)
    assert dipoles.shape == (mol.natm, 3, 3)
    states = []
    for factor in (1, -1, 2, -2):
        coords = mol.atom_coords()
        coords[1, 2] += factor * STEP
        moved = mol.set_geom_(coords, unit="bohr", inplace=False)
        there = KohnSham.from_pyscf(moved, grid_level=0, **settings)
        at = there.scf(dm0=result.dm, **TIGHT)
        states.append((at.fock, there.data.ovlp, at.dm, _dipole(moved, at.dm)))
    fock, overlap, dm, dipole = (_slope(values) for values in zip(*states, strict=True))
    # four-point differences leave some 1e-6 of elements of up to 2
    torch.testing.assert_close(found.fock[0, 2], fock, atol=4e-6, rtol=0)
    torch.testing.assert_close(found.overlap[0, 2], overlap, atol=1e-8, rtol=0)
    torch.testing.assert_close(found.dm[0, 2], dm, atol=4e-6, rtol=0)
    torch.testing.assert_close(dipoles[1, 2], dipole, atol=4e-6, rtol=0)
    assert float(dipoles.sum(0).abs().max()) < 1e-7


@pytest.mark.parametrize(
    "given",
    [
        {"atom": "Cl 0 0 0; H .1 .2 1.3", "basis": "lanl2dz", "ecp": {"Cl": "lanl2dz"}},
        {"atom": "F 0 0 0; H .1 .2 .9; ghost-H 1 1 1", "basis": "sto-3g"},
    ],
)
def test_the_grid_follows_atoms_whose_charge_is_not_their_elements(given):
    mol = gto.M(**given, verbose=0)
    ks = KohnSham.from_pyscf(mol, xc="lda,vwn", grid_level=0)
    result = ks.scf(**TIGHT)
    found = ks.fock_gradient(result, atoms=[1])
    states = []
    for factor in (1, -1, 2, -2):
        coords = mol.atom_coords()
        coords[1, 2] += factor * STEP
        moved = mol.set_geom_(coords, unit="bohr", inplace=False)
        there = KohnSham.from_pyscf(moved, xc="lda,vwn", grid_level=0)
        states.append(there.scf(dm0=result.dm, **TIGHT).fock)
    torch.testing.assert_close(found.fock[0, 2], _slope(states), atol=4e-6, rtol=0)


def test_an_ion_as_a_whole_carries_its_charge():
    mol = _molecule("O 0 0 0.1; H 0 0.76 0.58", charge=-1)
    found = KohnSham.from_pyscf(mol, xc="pbe", grid_level=0).dipole_derivatives()
    unit = torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(found.sum(0), -unit, atol=1e-7, rtol=0)


def _modes_are_cartesian(monkeypatch, module):
    """Let PySCF give its matrices along the coordinates instead of vibrations."""

    def plain(vec, omega, mass):
        del vec, omega
        return np.eye(3 * len(mass))

    monkeypatch.setattr(module, "_freq_mass_weighted_vec", plain)


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize(
    ("make", "module"),
    [
        (scf.RHF, eph_rhf),
        (functools.partial(dft.RKS, xc="b3lyp"), eph_rks),
        (functools.partial(dft.UKS, xc="pbe"), eph_uks),  # PySCF's needs as many alpha as beta
    ],
)
def test_the_perturbation_is_pyscfs(make, module, monkeypatch):
    mol = _molecule(HF)
    mf = make(mol)
    if hasattr(mf, "grids"):
        mf.grids.level = 4  # PySCF leaves out what moves with the grid
    mf.conv_tol, mf.conv_tol_grad = 1e-13, 1e-9
    mf.kernel()
    _modes_are_cartesian(monkeypatch, eph_rhf)
    theirs, _ = module.EPH(mf).kernel()
    ours = KohnSham.from_pyscf(mf).fock_gradient().perturbation
    ours = ours.flatten(0, 1).numpy()
    if ours.ndim == 4:
        ours = ours.transpose(1, 0, 2, 3)
    np.testing.assert_allclose(ours, theirs, atol=2e-5 if hasattr(mf, "grids") else 1e-7)


def test_translation_moves_the_basis_alone():
    ks = KohnSham.from_pyscf(_molecule(HF), xc="pbe", grid_level=0)
    found = ks.fock_gradient()
    for total in (found.fock, found.overlap, found.dm):
        assert float(total.sum(0).abs().max()) < 1e-6


def test_a_result_knows_its_layer():
    ks = KohnSham.from_pyscf(_molecule(HF), xc="hf")
    result = ks.scf(**TIGHT)
    first, second = result.fock_gradient(atoms=[1]), ks.fock_gradient(result, atoms=[1])
    torch.testing.assert_close(first.fock, second.fock, atol=0, rtol=0)
    torch.testing.assert_close(
        dataclasses.replace(result, iterations=0).polarizability(), ks.polarizability(result)
    )


def test_wrong_requests_are_refused():
    mol = _molecule(HF)
    ks = KohnSham.from_pyscf(mol, xc="hf")
    for atoms, words in (
        ([2], "from 0 to 1, got 2"),
        ([-1], "got -1"),
        ([0, 0], "different atoms"),
        ([], "different atoms"),
        (["H"], "got 'H'"),
    ):
        with pytest.raises(InputError, match=words):
            ks.fock_gradient(atoms=atoms)
    with pytest.raises(InputError, match="without field"):
        KohnSham.from_pyscf(mol, xc="hf", field=(0, 0, 0.01)).fock_gradient()
    mf = scf.RHF(mol)
    core = mf.get_hcore()
    mf.get_hcore = lambda *_: core * 1.01
    with pytest.raises(InputError, match="another get_hcore"):
        KohnSham.from_pyscf(mf).dipole_derivatives()
    mf = dft.RKS(mol, xc="lda,vwn")
    mf.grids.coords, mf.grids.weights = mol.atom_coords(), np.ones(2)
    with pytest.raises(InputError, match="Becke"):
        KohnSham.from_pyscf(mf).fock_gradient(None)


def test_crystals_are_refused_in_a_line():
    cell = pbc_gto.M(
        atom="He 0 0 0",
        a=4 * np.eye(3),
        basis="gth-szv",
        pseudo="gth-pade",
        verbose=0,
        ke_cutoff=10,
    )
    ks = KohnSham.from_pyscf(cell, xc="lda,vwn", kmesh=(1, 1, 1))
    for method in (ks.polarizability, ks.dipole_derivatives, ks.fock_gradient):
        with pytest.raises(InputError, match="got a crystal"):
            method()
