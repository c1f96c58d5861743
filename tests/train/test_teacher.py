"""The teacher: targets improve with every build, survive a restart, and stop costing."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.kohnsham import KohnSham, molecule
from deeph_zero.ks.counts import Builds
from deeph_zero.ks.scf.result import SCFSettings
from deeph_zero.ks.scf.solve import solve_scf
from deeph_zero.testing import WATER
from deeph_zero.train import teacher as teacher_module
from deeph_zero.train.teacher import Teacher


@pytest.fixture
def ks(water):
    return KohnSham.from_pyscf(water, grid_level=1, two_grids=False)


def start(ks):
    return Teacher(ks, ks.build(ks.data.dm_guess).fock)


@pytest.mark.reference
def test_target_reaches_pyscfs_fock_within_ten_builds_and_then_costs_nothing(water, ks):
    mf = dft.RKS(water, xc="pbe").density_fit()
    mf.grids.level, mf.conv_tol, mf.conv_tol_grad = 1, 1e-11, 1e-7
    mf.kernel()
    teacher = start(ks)
    for _ in range(12):
        teacher.advance()
    assert teacher.converged
    assert teacher.builds <= 9
    assert ks.fock_builds == teacher.builds + 1
    assert teacher.energy == pytest.approx(mf.e_tot, abs=1e-9)
    np.testing.assert_allclose(teacher.target.numpy(), mf.get_fock(), atol=1e-5)


def test_rms_is_that_of_the_occupied_virtual_block(ks):
    fock = ks.build(ks.data.dm_guess).fock
    dm = ks.density(fock)
    rebuilt = ks.build(dm).fock
    orbitals = ks.orbitals(fock)
    nocc = ks.nelec[0]
    block = (orbitals.mo_coeff.mT @ rebuilt @ orbitals.mo_coeff)[:nocc, nocc:]
    want = float(block.square().mean().sqrt())
    assert Teacher(ks, fock).rms(rebuilt, dm) == pytest.approx(want, rel=1e-9)
    energy = float(ks.build(dm).energy)
    got = ks.certificate(dm, rebuilt, energy, coupled=False).orbital_gradient_rms
    assert got == pytest.approx(want, rel=1e-9)


def test_a_better_build_restarts_the_history_and_a_worse_one_is_ignored(ks):
    exact = ks.scf(conv_tol=1e-12)
    teacher = start(ks)
    teacher.advance()
    assert teacher.offer(exact.dm, exact.fock, exact.energy)
    assert teacher.converged
    poor = ks.data.dm_guess
    assert not teacher.offer(poor, ks.build(poor).fock, 0.0)
    torch.testing.assert_close(teacher.target, exact.fock)


def test_state_round_trip_continues_alike(ks):
    first, second = start(ks), start(ks)
    for _ in range(3):
        first.advance()
    second.restore(first.state())
    first.advance()
    second.advance()
    assert torch.equal(first.target, second.target)
    assert (first.residual, first.builds) == (second.residual, second.builds)


def test_where_diis_fails_the_solver_takes_over_once(ks, monkeypatch):
    monkeypatch.setattr(teacher_module, "PATIENCE", 2)
    teacher = start(ks)
    for _ in range(3):
        teacher.advance()
    assert teacher.converged
    monkeypatch.setattr(teacher_module, "PATIENCE", 0)
    hopeless = start(ks)
    little = SCFSettings(max_cycle=1, retry=False)
    monkeypatch.setattr(molecule, "solve_scf", lambda layer, dm, *_: solve_scf(layer, dm, little))
    hopeless.advance()
    assert not hopeless.converged
    before = ks.fock_builds
    hopeless.advance()
    assert ks.fock_builds == before


def test_unrestricted_rms_counts_both_spins():
    mol = gto.M(atom=WATER, charge=1, spin=1, basis="6-31g", verbose=0)
    ks = KohnSham.from_pyscf(mol, grid_level=0)
    dm = ks.density(ks.build(ks.data.dm_guess).fock)
    built = ks.build(dm)
    want = ks.certificate(dm, built.fock, built.energy, coupled=False).orbital_gradient_rms
    assert Teacher(ks, built.fock).rms(built.fock, dm) == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("start", ["superposed atoms", "coarse solution"])
def test_with_a_coarse_grid_one_or_two_builds_settle_a_geometry(water, start):
    ks = KohnSham.from_pyscf(water, grid_level=3)
    exact = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-8)
    ks.builds = Builds()
    if start == "superposed atoms":
        teacher = Teacher(ks, ks.build(ks.data.dm_guess).fock, dm0=ks.data.dm_guess)
        assert teacher.started, "F0 gives a target"
    else:
        teacher = Teacher(
            ks,
            ks.from_layer(solve_scf(ks.layer.coarse, None, SCFSettings(conv_tol_grad=3e-4)).fock),
        )
        assert not teacher.started
    teacher.advance()
    assert teacher.finished
    assert ks.fock_builds == (2 if start == "superposed atoms" else 1)
    error = float(teacher.rms(teacher.target, exact.dm))  # between converged orbitals
    assert error < teacher.expected_error < 1e-6
    torch.testing.assert_close(teacher.target, exact.fock, rtol=0, atol=1e-6)


def test_a_solved_target_is_kept_over_a_restart(water):
    ks = KohnSham.from_pyscf(water, grid_level=3)
    teacher = Teacher(ks, ks.build(ks.data.dm_guess).fock, dm0=ks.data.dm_guess)
    again = Teacher(ks, torch.zeros_like(teacher.target))
    again.restore(teacher.state())
    assert again.expected_error == teacher.expected_error > 0
    torch.testing.assert_close(again.target, teacher.target)
    old = teacher.state()
    old["scalars"] = old["scalars"][:7]  # written by version 0.1
    again.restore(old)
    assert again.expected_error > 0
