"""The dielectric step: solves its linear equations and brings targets closer to the end."""

import pytest
import torch
from pyscf import gto

from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.density import divided_difference
from deeph_zero.ks.response import dielectric
from deeph_zero.ks.response.dielectric import stops_helping


@pytest.fixture(params=["water", "amidogen"])
def ks(request, water):
    radical = "N 0 0 0; H .1 0 1.03; H .93 .35 -.2"
    open_shell = gto.M(atom=radical, basis="sto-3g", spin=1, verbose=0)
    mol = water if request.param == "water" else open_shell
    return KohnSham.from_pyscf(mol, grid_level=0)


def near(ks, size):
    """F of a density whose Fock matrix was off by ``size`` Eh, and that density."""
    exact = ks.scf(conv_tol=1e-11, conv_tol_grad=1e-7).fock
    torch.manual_seed(3)
    noise = torch.randn(exact.shape, dtype=exact.dtype)
    dm = ks.density(exact + size * (noise + noise.mT))
    return exact, ks.build(dm).fock, dm


def dense_solution(ks, fock, dm):
    """The same change of F with every matrix written out, pair by pair."""
    orbitals = ks.orbitals(fock)
    w = divided_difference(orbitals.mo_energy, orbitals.mo_occ, ks.gap_floor)
    c = orbitals.mo_coeff

    def kernel(change):
        if not ks.unrestricted:
            return dielectric.COULOMB_PART * ks.data.coulomb.coulomb(change)
        total = dielectric.COULOMB_PART * ks.data.coulomb.coulomb(change.sum(0))
        spin = dielectric.SPIN_PART * ks.data.coulomb.coulomb(change[0] - change[1])
        return torch.stack([total - spin, total + spin])

    def response(flat):
        potential = kernel(flat.reshape(dm.shape))
        return (c @ (w * (c.mT @ potential @ c)) @ c.mT).reshape(-1)

    n = dm.numel()
    unit = torch.eye(n, dtype=dm.dtype).reshape(n, *dm.shape)
    columns = [response(0.5 * (one + one.mT)) for one in unit]
    first = (ks.density(fock) - dm).reshape(-1)
    change = torch.linalg.solve(torch.eye(n, dtype=dm.dtype) - torch.stack(columns, 1), first)
    return kernel(change.reshape(dm.shape))


def test_the_equations_are_solved(ks, monkeypatch):
    monkeypatch.setattr(dielectric, "TOLERANCE", 1e-12)
    monkeypatch.setattr(dielectric, "MAX_PRODUCTS", 200)
    _, fock, dm = near(ks, 1e-3)
    want = dense_solution(ks, fock, dm)
    assert float(want.abs().max()) > 1e-4
    torch.testing.assert_close(
        ks.dielectric_step(fock, dm), want.expand_as(fock), atol=1e-9, rtol=0
    )


def test_the_default_tolerance_changes_a_percent(ks, monkeypatch):
    _, fock, dm = near(ks, 1e-3)
    quick = ks.dielectric_step(fock, dm)
    monkeypatch.setattr(dielectric, "TOLERANCE", 1e-12)
    exact = ks.dielectric_step(fock, dm)
    assert float((quick - exact).norm()) < 0.02 * float(exact.norm())


def test_it_brings_a_rebuilt_matrix_three_times_closer(ks):
    exact, fock, dm = near(ks, 1e-3)
    builds = ks.fock_builds
    moved = fock + ks.dielectric_step(fock, dm)
    assert ks.fock_builds == builds, "not a build"
    assert float((moved - exact).norm()) < float((fock - exact).norm()) / 3


def test_nothing_moves_at_self_consistency(ks):
    exact = ks.scf(conv_tol=1e-12, conv_tol_grad=1e-8)
    step = ks.dielectric_step(exact.fock, exact.dm)
    assert float(step.abs().max()) < 1e-7


def test_an_scf_with_it_needs_fewer_builds_for_the_same_result(ks):
    plain = ks.scf(conv_tol=1e-10, conv_tol_grad=1e-6, dielectric=False)
    moved = ks.scf(conv_tol=1e-10, conv_tol_grad=1e-6)
    assert moved.converged
    assert moved.fock_builds <= plain.fock_builds - 2
    assert moved.energy == pytest.approx(plain.energy, abs=1e-10)
    torch.testing.assert_close(moved.fock, plain.fock, atol=1e-6, rtol=0)


@pytest.mark.parametrize("knobs", [{"level_shift": 0.2}, {"damp": 0.3, "diis_start": 2}])
def test_a_shifted_or_damped_scf_goes_without(ks, knobs, monkeypatch):
    monkeypatch.setattr("deeph_zero.ks.scf.mixing.dielectric_step", None)
    assert ks.scf(**knobs).converged


def test_a_stalled_scf_goes_on_without(ks, monkeypatch):
    """A step that undoes all progress is dropped after two builds without any."""
    taken = []

    def useless(layer, fock, dm, _degeneracy_tol):
        taken.append(dm)
        return 0.3 * torch.linalg.inv(layer.data.ovlp).expand_as(fock)

    monkeypatch.setattr("deeph_zero.ks.scf.mixing.dielectric_step", useless)
    result = ks.scf()
    assert result.converged
    assert 2 <= len(taken) < result.iterations


def test_a_spin_about_to_flip_takes_no_part(ks, monkeypatch):
    _, fock, dm = near(ks, 1e-3)
    usual = ks.dielectric_step(fock, dm)
    monkeypatch.setattr(dielectric, "SPIN_PART", 50.0)  # the equations are indefinite now
    odd = ks.dielectric_step(fock, dm)
    monkeypatch.setattr(dielectric, "SPIN_PART", 0.0)
    assert torch.equal(odd, ks.dielectric_step(fock, dm))
    assert torch.equal(odd, usual) != ks.unrestricted


def test_two_stalled_builds_in_a_row_stop_it():
    assert not stops_helping([])
    assert not stops_helping([1.0, 0.8])
    assert not stops_helping([1.0, 0.8, 0.5])
    assert not stops_helping([1.0, 0.5, 0.45])
    assert stops_helping([9.0, 1.0, 0.8, 0.9])
    assert not stops_helping([0.0, 0.0, 0.0])  # one function of each symmetry


def test_a_start_that_leaves_the_hole_open_decides_without():
    """Both π levels of hydroxyl are alike in superposed atoms: PySCF's path, PySCF's state."""
    mol = gto.M(atom="O 0 0 0; H .2 .4 1.77", unit="B", basis="sto-3g", spin=1, verbose=0)
    ks = KohnSham.from_pyscf(mol, grid_level=0)
    plain, usual = ks.scf(dielectric=False), ks.scf()
    assert usual.fock_builds == plain.fock_builds
    assert usual.energy == plain.energy
