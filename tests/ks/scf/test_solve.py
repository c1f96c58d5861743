"""Which iteration solves a molecule, and where a coarse grid says that it will end."""

import pytest
import torch
from pyscf import gto

import deeph_zero as dz
from deeph_zero.ks.scf import solve
from deeph_zero.ks.scf.result import SCFSettings
from deeph_zero.ks.scf.solve import coarse_solution, solve_scf

ATOM = "O 0 0 .1; H .2 .3 1"


@pytest.fixture(scope="module")
def ks():
    mol = gto.M(atom=ATOM, basis="sto-3g", charge=-1, verbose=0)
    return dz.KohnSham.from_pyscf(mol, xc="pbe", grid_level=3)


@pytest.fixture(scope="module")
def done(ks):
    return solve_scf(ks.layer, None, SCFSettings(conv_tol=1e-11))


def test_two_grids_end_where_one_does(ks, done):
    alone = solve_scf(ks.layer, None, SCFSettings(conv_tol=1e-11, two_grids=False))
    assert done.converged
    assert alone.converged
    assert done.energy == pytest.approx(alone.energy, abs=1e-9)
    assert done.fock_builds < alone.fock_builds


def test_a_coarse_grid_has_to_pay(ks, done, monkeypatch):
    monkeypatch.setattr(solve, "PAYS", 100.0)
    alone = solve_scf(ks.layer, None, SCFSettings(conv_tol=1e-11))
    assert alone.fock_builds > done.fock_builds


def test_a_build_that_is_there_is_not_made_again(ks, done):
    built = ks.layer.build(done.dm)
    before = ks.layer.fock_builds
    again = solve_scf(ks.layer, done.dm, SCFSettings(two_grids=False, hint=False), built)
    assert again.converged
    assert ks.layer.fock_builds - before == again.fock_builds <= 1


def test_the_end_is_known_from_one_fine_build(ks, done):
    generator = torch.Generator().manual_seed(3)
    noise = 0.01 * torch.randn(done.fock.shape, generator=generator, dtype=torch.float64)
    dm = ks.layer.density(done.fock + noise + noise.mT)
    built = ks.layer.build(dm)
    builds = ks.layer.fock_builds
    end = coarse_solution(ks.layer, dm, built.fock)
    assert end is not None
    assert ks.layer.fock_builds == builds  # on the coarse grid alone
    above = float(built.energy) - done.energy
    assert above > 1e-5
    assert end.change == pytest.approx(-above, abs=2e-3 * above)
    assert float((end.fock - done.fock).norm()) < 2e-3 * float((built.fock - done.fock).norm())


def test_without_a_coarse_grid_or_with_smearing_it_is_not():
    mol = gto.M(atom=ATOM, basis="sto-3g", charge=-1, verbose=0)
    for settings in ({"grid_level": 0}, {"grid_level": 3, "smearing": 0.01}):
        layer = dz.KohnSham.from_pyscf(mol, xc="pbe", **settings).layer
        dm = layer.dm_guess
        assert coarse_solution(layer, dm, layer.build(dm).fock) is None
