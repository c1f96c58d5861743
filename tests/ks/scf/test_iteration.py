"""SCF against PySCF: energies, orbitals, iteration counts, failures as results."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto, scf

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.scf.iteration import gradient_norm
from deeph_zero.ks.scf.start import starting_density
from deeph_zero.testing import WATER

CASES = {
    "water pbe": (WATER, 0, 0, "pbe"),
    "formaldehyde pbe0": ("C 0 0 0; O .02 0 1.2; H .93 .05 -.57; H -.95 0 -.6", 0, 0, "pbe0"),
    "ch3 pbe": ("C 0 0 .02; H 0 1.08 0; H .93 -.54 0; H -.93 -.54 .01", 0, 1, "pbe"),
    "no2 b3lyp": ("N 0 0 0; O .02 1.1 .46; O -.03 -1.12 .43", 0, 1, "b3lyp"),
    "hydroxide": ("O 0 0 0; H .1 0 .96", -1, 0, "tpss"),
    "helium": ("He 0 0 0", 0, 0, "lda,vwn"),
    "hydrogen molecule": ("H 0 0 0; H 0 .1 .74", 0, 0, "pbe"),
    "hydrogen atom": ("H 0 0 0", 0, 1, "pbe0"),
    "carbon dioxide": ("C 0 0 0; O 0 0 1.16; O 0 0 -1.16", 0, 0, "blyp"),
}


@pytest.mark.reference
@pytest.mark.parametrize("case", CASES)
def test_scf_gives_pyscf_energy_orbitals_dipole_and_spin(case):
    atom, charge, spin, xc = CASES[case]
    mol = gto.M(atom=atom, charge=charge, spin=spin, basis="def2-svp", verbose=0)
    mf = (dft.UKS if spin else dft.RKS)(mol, xc=xc).density_fit()
    mf.grids.level = 1
    mf.conv_tol = 1e-10
    mf.kernel()
    ks = KohnSham.from_pyscf(mf)
    result = ks.scf(conv_tol=1e-10)
    assert result.converged
    assert result.energy == pytest.approx(mf.e_tot, abs=2e-9)
    # without electrons a channel's potential hangs on rounding, in PySCF too (see test_layer.py)
    filled = [n > 0 for n in mol.nelec] if spin else ...
    np.testing.assert_allclose(
        result.mo_energy.numpy()[filled], np.asarray(mf.mo_energy)[filled], atol=2e-5
    )
    np.testing.assert_allclose(
        ks.dipole(result.dm).numpy(), _dipole(mol, mf.make_rdm1()), atol=2e-4
    )
    if spin:
        assert ks.spin_square(result.dm) == pytest.approx(mf.spin_square()[0], abs=1e-5)
    nelec = torch.einsum("...mn,nm->...", result.dm, ks.data.ovlp).reshape(-1)
    want = [float(n) for n in mol.nelec] if spin else [float(sum(mol.nelec))]
    np.testing.assert_allclose(nelec.numpy(), want, atol=1e-9)


def _dipole(mol, dm):
    """About the nuclear-charge centre, which matters for ions."""
    charges, coords = mol.atom_charges(), mol.atom_coords()
    centre = charges @ coords / charges.sum()
    total = dm if dm.ndim == 2 else dm.sum(0)
    with mol.with_common_orig(centre):
        electronic = np.einsum("xmn,mn->x", mol.intor("int1e_r"), total)
    from pyscf.data import nist

    return (charges @ (coords - centre) - electronic) * nist.AU2DEBYE


def test_unconverged_is_a_result(water):
    ks = KohnSham.from_pyscf(water, grid_level=0)
    result = ks.scf(max_cycle=2, retry=False)
    assert not result.converged
    assert result.iterations == 2
    assert np.isfinite(result.energy)


def test_scf_from_a_converged_density_needs_one_iteration(water):
    ks = KohnSham.from_pyscf(water, grid_level=0)
    first = ks.scf(conv_tol=1e-10)
    again = ks.scf(first.dm, conv_tol=1e-8)
    assert again.iterations <= 1 + (again.gradient_norm > 1e-4)
    assert again.energy == pytest.approx(first.energy, abs=1e-9)


@pytest.mark.reference
def test_gradient_norm_is_pyscfs(water):
    mf = dft.RKS(water, xc="pbe").density_fit()
    ks = KohnSham.from_pyscf(mf)
    result = ks.scf(max_cycle=3, retry=False)
    want = np.linalg.norm(mf.get_grad(*_orbitals(mf, result.dm.numpy()), fock=result.fock.numpy()))
    assert result.gradient_norm == pytest.approx(want, rel=1e-6)


def _orbitals(mf, dm):
    s = mf.get_ovlp()
    w, v = np.linalg.eigh(s)
    x = v / np.sqrt(w) @ v.T
    occ, u = np.linalg.eigh(np.linalg.inv(x) @ dm @ np.linalg.inv(x))
    return x @ u[:, ::-1], np.round(occ[::-1])


@pytest.mark.parametrize("knobs", [{"damp": 0.4, "diis_start": 3}, {"level_shift": 0.2}])
def test_damping_and_level_shift_reach_the_same_energy(water, knobs):
    ks = KohnSham.from_pyscf(water, grid_level=0)
    plain, knobbed = ks.scf(conv_tol=1e-9), ks.scf(conv_tol=1e-9, **knobs)
    assert knobbed.converged
    assert knobbed.energy == pytest.approx(plain.energy, abs=1e-8)


@pytest.mark.reference
def test_near_linear_dependent_basis_converges_to_pyscfs_energy():
    """Two hydrogens 0.25 bohr apart with diffuse functions: S is nearly singular."""
    mol = gto.M(atom="He 0 0 0; He 0 0 .3; He 0 .3 .1", basis="aug-cc-pvtz", verbose=0)
    mf = scf.RHF(mol)
    mf.conv_tol = 1e-10
    mf.kernel()
    ks = KohnSham.from_pyscf(mf)
    result = ks.scf(conv_tol=1e-10)
    assert result.converged
    assert result.energy == pytest.approx(mf.e_tot, abs=1e-7)
    assert ks.nmo <= ks.nao


HARD = {
    # PySCF's DIIS oscillates in all of them for 100 cycles
    "oxygen singlet": ("O 0 0 0; O 0 0 1.21", 0, 0),
    "fluorine stretched": ("F 0 0 0; F 0 0 3", 0, 0),
    "lithium fluoride stretched": ("Li 0 0 0; F 0 0 6", 0, 0),
    "ch anion stretched": ("C 0 0 0; H 0 0 2", -1, 0),
}


@pytest.mark.parametrize("case", HARD)
def test_second_order_steps_converge_where_diis_oscillates(case):
    atom, charge, spin = HARD[case]
    mol = gto.M(atom=atom, charge=charge, spin=spin, basis="def2-svp", verbose=0)
    ks = KohnSham.from_pyscf(mol, grid_level=0)
    plain = ks.scf(retry=False, max_cycle=60)
    assert not plain.converged
    before = ks.fock_builds
    result = ks.scf()
    assert result.converged
    assert result.second_order_steps > 0
    assert result.iterations <= 60
    assert result.fock_builds == ks.fock_builds - before > result.iterations
    assert result.energy < plain.energy + 1e-9
    # what it says of itself, from a build of its own
    built = ks.build(result.dm)
    assert float(built.energy) == pytest.approx(result.energy, abs=1e-10)
    assert gradient_norm(ks.commutator(built.fock, result.dm)) < 1e-9**0.5
    own = (result.mo_coeff * result.mo_occ.unsqueeze(-2)) @ result.mo_coeff.mT
    torch.testing.assert_close(own, result.dm, atol=1e-4, rtol=0)


def test_max_cycle_counts_second_order_steps_too():
    mol = gto.M(atom="O 0 0 0; O 0 0 1.21", basis="def2-svp", verbose=0)
    ks = KohnSham.from_pyscf(mol, grid_level=0)
    result = ks.scf(max_cycle=14)
    assert not result.converged
    assert result.iterations == 14
    assert result.second_order_steps == 1


@pytest.mark.reference
@pytest.mark.parametrize("case", ["water pbe", "ch3 pbe"])
def test_iterations_are_about_pyscfs(case):
    atom, charge, spin, xc = CASES[case]
    mol = gto.M(atom=atom, charge=charge, spin=spin, basis="def2-svp", verbose=0)
    mf = (dft.UKS if spin else dft.RKS)(mol, xc=xc).density_fit()
    mf.grids.level = 0
    mf.kernel()
    result = KohnSham.from_pyscf(mf).scf()
    assert result.iterations <= mf.cycles + 1
    assert result.second_order_steps == 0
    assert result.fock_builds == result.iterations + 1


@pytest.mark.parametrize("spin", [0, 2])
def test_core_guess_reaches_the_same_energy(spin):
    atom = "N 0 0 0; H 0 .1 1.03" if spin else "O 0 0 0; H 0 .1 .97; H .93 0 -.2"
    mol = gto.M(atom=atom, spin=spin, basis="6-31g", verbose=0)
    ks = KohnSham.from_pyscf(mol, grid_level=0)
    minao, core = ks.scf(), ks.scf(init_guess="core")
    assert core.converged
    assert core.energy == pytest.approx(minao.energy, abs=1e-8)
    dm = starting_density(ks.layer, "core")
    _, coeff = np.linalg.eigh((ks.x.mT @ ks.data.hcore @ ks.x).numpy())
    lowest = ks.x.numpy() @ coeff[:, : mol.nelec[0]]
    first = dm[0] / ks.layer.per_orbital
    np.testing.assert_allclose(first.numpy(), lowest @ lowest.T, atol=1e-10)


def test_an_unknown_guess_is_refused(water):
    ks = KohnSham.from_pyscf(water, grid_level=0)
    with pytest.raises(InputError, match="'minao' or 'core', got 'huckel'"):
        ks.scf(init_guess="huckel")


def test_a_given_first_build_is_not_made_again(water):
    ks = KohnSham.from_pyscf(water, grid_level=0)
    dm = ks.density(ks.build(ks.data.dm_guess).fock)
    built = ks.build(dm)
    before = ks.fock_builds
    given = ks.scf(dm, first_build=built)
    assert given.fock_builds == ks.fock_builds - before == given.iterations
    own = ks.scf(dm)
    assert own.fock_builds == own.iterations + 1
    assert given.iterations == own.iterations
    assert given.energy == own.energy
