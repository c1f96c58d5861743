"""Polarisabilities against finite electric fields, in every functional class, and PySCF's SCF."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto, scf

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.response.coupled import CoupledPerturbed
from deeph_zero.testing import WATER
from deeph_zero.units import DEBYE_PER_AU

HF = "H 0 0 0; F 0.1 0.2 0.9"
NH = "N 0 0 0; H 0.1 0.3 1.0"
CASES = {
    "LDA": (HF, 0, {"xc": "lda,vwn"}),
    "GGA": (HF, 0, {"xc": "pbe"}),
    "meta-GGA": (HF, 0, {"xc": "r2scan"}),
    "meta-GGA of libxc": (HF, 0, {"xc": "m062x"}),
    "hybrid, four-centre": (WATER, 0, {"xc": "b3lyp", "density_fit": False}),
    "range-separated": (HF, 0, {"xc": "camb3lyp"}),
    "Hartree-Fock": (WATER, 0, {"xc": "hf"}),
    "VV10": ("H 0 0 0; H 0.1 0.2 0.7", 0, {"xc": "wb97x_v", "nlc_grid_level": 0}),
    "open shell": (NH, 2, {"xc": "pbe"}),
    "open shell, range-separated": (NH, 2, {"xc": "camb3lyp"}),
    "open shell, meta-GGA": (NH, 2, {"xc": "tpss"}),
    "no beta electron": ("H .1 .2 .3", 1, {"xc": "pbe"}),
}
STEP = 1e-3


def _molecule(atom, spin=0, basis="sto-3g", **more):
    return gto.M(atom=atom, spin=spin, basis=basis, verbose=0, **more)


def _dipoles(mol, settings, axis, dm0):
    """Electronic dipole moments in fields ±h and ±2h along one axis, a.u."""
    out = []
    for factor in (1, -1, 2, -2):
        field = np.zeros(3)
        field[axis] = factor * STEP
        ks = KohnSham.from_pyscf(mol, grid_level=0, field=field, **settings)
        result = ks.scf(dm0=dm0, conv_tol=1e-12, conv_tol_grad=1e-9, hint=False)
        out.append(ks.dipole(result.dm) / DEBYE_PER_AU)
    return out


@pytest.mark.parametrize("case", CASES)
def test_is_the_slope_of_the_dipole_in_a_field(case):
    atom, spin, settings = CASES[case]
    basis = "6-31g" if atom.startswith("H .1") else "sto-3g"
    mol = _molecule(atom, spin, basis)
    ks = KohnSham.from_pyscf(mol, grid_level=0, **settings)
    result = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-8, hint=False)
    alpha = ks.polarizability(result)
    plus, minus, plus2, minus2 = _dipoles(mol, settings, 2, result.dm)
    slope = (8 * (plus - minus) - (plus2 - minus2)) / (12 * STEP)
    torch.testing.assert_close(alpha, alpha.mT, atol=0, rtol=0)
    size = float(alpha.abs().max())
    if case == "no beta electron":  # s functions alone: no dipole at all
        assert size < 1e-10
        return
    assert size > 0.5
    assert float((alpha[2] - slope).abs().max()) < 1e-6 * size


@pytest.mark.reference
@pytest.mark.parametrize(("kind", "spin"), [(scf.RHF, 0), (dft.UKS, 2)])
def test_is_pyscfs_with_its_own_field(kind, spin):
    mol = _molecule(NH if spin else WATER, spin, "6-31g")
    mf = kind(mol)
    if spin:
        mf.xc = "b3lyp"
        mf.grids.level = 0
    dipoles, step = [], STEP / 5
    with mol.with_common_orig((0, 0, 0)):
        position = mol.intor_symmetric("int1e_r", comp=3)
    core = mf.get_hcore()
    for sign in (1, -1):
        mf.get_hcore = lambda *_, sign=sign: core + sign * step * position[0]
        mf.conv_tol, mf.conv_tol_grad = 1e-13, 1e-9
        mf.kernel(dm0=mf.make_rdm1() if mf.mo_coeff is not None else None)
        dipoles.append(mf.dip_moment(unit="au", verbose=0))
    del mf.get_hcore
    alpha = KohnSham.from_pyscf(mf).polarizability()
    slope = (dipoles[0] - dipoles[1]) / (2 * step)
    # two-point differences: the third derivative of the dipole leaves some 1e-4
    np.testing.assert_allclose(alpha[0], slope, atol=2e-4)


def test_a_result_is_taken_and_tightened():
    ks = KohnSham.from_pyscf(_molecule(WATER), xc="pbe", grid_level=0)
    loose = ks.scf(conv_tol=1e-4, conv_tol_grad=1e-2, two_grids=False)
    assert loose.gradient_norm > 1e-6
    tight = ks.scf(conv_tol=1e-12, conv_tol_grad=1e-9)
    torch.testing.assert_close(
        ks.polarizability(loose), ks.polarizability(tight), atol=1e-6, rtol=0
    )
    before = ks.fock_builds
    ks.polarizability()
    first = ks.fock_builds - before
    ks.polarizability()
    assert ks.fock_builds - before - first <= first


def test_the_frame_does_not_matter():
    mol = _molecule(WATER)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    turned = mol.set_geom_(mol.atom_coords() @ turn.T + 3.0, unit="bohr", inplace=False)
    first, second = (
        KohnSham.from_pyscf(m, xc="hf").polarizability().numpy() for m in (mol, turned)
    )
    np.testing.assert_allclose(turn @ first @ turn.T, second, atol=1e-8)


def test_several_perturbations_are_what_they_are_alone():
    ks = KohnSham.from_pyscf(_molecule(WATER), xc="pbe", grid_level=0)
    result = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-8)
    equations = CoupledPerturbed(ks.layer, ks.to_layer(result.dm), ks.to_layer(result.fock))
    position = ks.data.dipole.unsqueeze(1)
    together = equations.solve(position)
    alone = equations.solve(position[1:2])
    torch.testing.assert_close(together.dm[1], alone.dm[0], atol=1e-8, rtol=0)
    torch.testing.assert_close(together.fock[1], alone.fock[0], atol=1e-8, rtol=0)
    # the density follows the Fock matrix: dP is the derivative of P(F) along dF
    h = 1e-4
    up, down = (ks.density(result.fock + s * h * ks.from_layer(together.fock[0])) for s in (1, -1))
    moved = (up - down) / (2 * h)
    torch.testing.assert_close(moved, ks.from_layer(together.dm[0]), atol=1e-6, rtol=0)


def test_wrong_states_are_refused():
    mol = _molecule(WATER)
    ks = KohnSham.from_pyscf(mol, xc="pbe", grid_level=0)
    with pytest.raises(InputError, match="expected a converged result"):
        ks.polarizability(ks.scf(max_cycle=1))
    with pytest.raises(InputError, match=r"expected a result of ks.scf\(\), got a Tensor"):
        ks.polarizability(ks.scf().dm)
    other = KohnSham.from_pyscf(_molecule("H 0 0 0; F 0 0 .9"), xc="pbe", grid_level=0)
    with pytest.raises(InputError, match=r"result: "):
        ks.polarizability(other.scf())
    with pytest.raises(InputError, match=r"smearing 0\.01"):
        KohnSham.from_pyscf(mol, xc="pbe", grid_level=0, smearing=0.01).polarizability()
    with pytest.raises(ComputationError):
        KohnSham.without_builds(mol).polarizability()
