"""Stability analysis against PySCF's Hessians and along its own instabilities."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.scf import stability as pyscf_stability
from pyscf.soscf import newton_ah

from deeph_zero.errors import InputError
from deeph_zero.kohnsham import KohnSham
from deeph_zero.testing import WATER

CASES = {
    "water": (WATER, 0, "pbe"),
    "water hybrid": (WATER, 0, "b3lyp"),
    "hydrogen stretched": ("H 0 0 0; H 0 .1 2.5", 0, "pbe"),
    "nitrogen stretched": ("N 0 0 0; N .1 0 2.2", 0, "pbe0"),
    "oxygen singlet": ("O 0 0 0; O .1 0 1.21", 0, "pbe"),
    "triplet ch2": ("C 0 0 0; H 0 .99 .4; H .02 -.97 .4", 2, "pbe"),
    "meta-GGA from libxc": ("H 0 0 0; H 0 .1 2.5", 0, "m062x"),
}


def _dense(product, size):
    matrix = np.array([product(e) for e in np.eye(size)])
    return float(np.linalg.eigvalsh(matrix + matrix.T)[0] / 2)


@pytest.mark.reference
@pytest.mark.parametrize("case", CASES)
def test_lowest_eigenvalues_are_pyscfs(case):
    atom, spin, xc = CASES[case]
    mol = gto.M(atom=atom, spin=spin, basis="6-31g", verbose=0)
    mf = (dft.UKS if spin else dft.RKS)(mol, xc=xc).density_fit()
    mf.grids.level = 0
    ks = KohnSham.from_pyscf(mf)
    result = ks.scf(conv_tol=1e-10)
    before = ks.fock_builds
    found = ks.stability(result.dm, result.fock)
    assert found.converged
    assert found.fock_builds == ks.fock_builds - before > 0
    mf.mo_coeff, mf.mo_occ = result.mo_coeff.numpy(), result.mo_occ.numpy()
    mf.mo_energy = result.mo_energy.numpy()
    hessian = newton_ah.gen_g_hop_uhf if spin else newton_ah.gen_g_hop_rhf
    _, product, diagonal = hessian(mf, mf.mo_coeff, mf.mo_occ)
    # PySCF's closed-shell Hessian carries the electrons per orbital
    internal = _dense(product, len(diagonal)) / (1 if spin else 2)
    assert found.internal == pytest.approx(internal, abs=2e-5)
    if spin:
        assert found.external is None
        return
    _, _, product, diagonal = pyscf_stability._gen_hop_rhf_external(mf)
    external = _dense(product, len(diagonal))
    assert found.external == pytest.approx(external, abs=2e-5)
    assert found.stable_external == (external > 0)
    assert (found.dm_external is None) == found.stable_external


def _molecule(atom, spin=0):
    return gto.M(atom=atom, spin=spin, basis="6-31g", verbose=0)


def test_the_external_instability_leads_to_a_lower_broken_symmetry_state():
    mol = _molecule("H 0 0 0; H 0 .1 2.5")
    closed = KohnSham.from_pyscf(mol, grid_level=0)
    result = closed.scf()
    found = closed.stability(result.dm, result.fock)
    assert found.stable_internal
    assert not found.stable_external
    broken = KohnSham.from_pyscf(mol, grid_level=0, unrestricted=True)
    lower = broken.scf(found.dm_external)
    assert lower.converged
    assert lower.energy < result.energy - 1e-2
    assert broken.spin_square(lower.dm) > 0.5
    assert broken.stability(lower.dm, lower.fock).stable_internal


def test_an_internal_saddle_point_is_left():
    """UKS of stretched H2 from a closed-shell density stays on the symmetric saddle point."""
    mol = _molecule("H 0 0 0; H 0 .1 2.5")
    ks = KohnSham.from_pyscf(mol, grid_level=0, unrestricted=True)
    saddle = ks.scf()
    found = ks.stability(saddle.dm, saddle.fock)
    assert not found.stable_internal
    minimum = ks.scf(leave_saddles=True)
    assert minimum.converged
    assert minimum.energy < saddle.energy - 1e-2
    assert minimum.second_order_steps > 0
    assert ks.stability(minimum.dm, minimum.fock).stable_internal


def test_a_closed_shell_above_pyscfs_comes_down_to_it_where_saddles_are_left():
    """What docs/limits.md says: an SCF alone looks for no saddle."""
    mol = gto.M(atom="N 0 0 0; H 0 0 1.6", charge=2, basis="3-21g", verbose=0)
    mf = mol.RHF().density_fit().run(conv_tol=1e-10)
    ks = KohnSham.from_pyscf(mf)
    assert ks.scf(conv_tol=1e-10).energy > mf.e_tot + 0.05
    assert ks.scf(conv_tol=1e-10, leave_saddles=True).energy == pytest.approx(mf.e_tot, abs=1e-8)


def test_nothing_to_rotate_is_stable():
    mol = gto.M(atom="He 0 0 0", basis="sto-3g", verbose=0)
    ks = KohnSham.from_pyscf(mol, grid_level=0)
    result = ks.scf()
    found = ks.stability(result.dm, result.fock)
    assert found.internal == float("inf")
    assert found.stable_internal
    assert found.stable_external


def test_a_functional_without_a_polarised_form_is_refused(water):
    ks = KohnSham.from_pyscf(water, grid_level=0)
    result = ks.scf(max_cycle=2)

    class Opaque:
        kind = ks.data.functional.kind
        gradient = ks.data.functional.gradient
        second = ks.data.functional.second
        third = ks.data.functional.third

    object.__setattr__(ks.data, "functional", Opaque())
    with pytest.raises(InputError, match=r"polarised\(\).*external=False"):
        ks.stability(result.dm, result.fock)
    assert ks.stability(result.dm, result.fock, external=False).external is None
    assert torch.isfinite(result.fock).all()
