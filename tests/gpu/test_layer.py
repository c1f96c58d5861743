"""The Kohn-Sham layer gives the CPU's numbers on a device."""

import pytest
import torch
from pyscf import gto

from deeph_zero.kohnsham import KohnSham
from deeph_zero.kohnsham.batch import KohnShamBatch

from .test_places import skewed

pytestmark = pytest.mark.gpu

ATOMS = "F 0 0 0; H .1 .2 .9"
CLASSES = ("svwn", "pbe", "r2scan", "b3lyp", "hse06", "wb97x", "camb3lyp", "hf", "m06", "lc_wpbe")
"""Every class of functional; the last two are libxc's, evaluated on the CPU."""


def molecule(spin=0, basis="sto-3g", atoms=ATOMS):
    return gto.M(atom=atoms, basis=basis, charge=spin, spin=spin, verbose=0)


def on_both(mol, work, **settings):
    """``work`` of a layer on the device, on the host, and the same on the CPU."""
    results = []
    for device in ("cuda", "cpu"):
        ks = KohnSham.from_pyscf(mol, device=device, **{"grid_level": 0} | settings)
        assert ks.data.ovlp.device.type == device
        results.append([one.detach().cpu() for one in work(ks)])
    return zip(*results, strict=True)


def assert_same(pairs, atol=1e-10, rtol=1e-12):
    for found, wanted in pairs:
        assert found.abs().max() > 0
        torch.testing.assert_close(found, wanted, rtol=rtol, atol=atol)


def builds(ks):
    dm = ks.data.dm_guess
    built = ks.build(dm)
    assert built.fock.device.type == dm.device.type
    return built.energy, built.fock, ks.response(dm, dm)


@pytest.mark.parametrize("density_fit", [True, False], ids=["fitted", "exact"])
@pytest.mark.parametrize("spin", [0, 1], ids=["rks", "uks"])
@pytest.mark.parametrize("xc", CLASSES)
def test_energy_fock_and_response(xc, spin, density_fit):
    assert_same(on_both(molecule(spin), builds, xc=xc, density_fit=density_fit))


def test_energy_with_non_local_correlation():
    def built(ks):
        found = ks.build(ks.data.dm_guess)
        return found.energy, found.fock

    mol = molecule(atoms="H 0 0 0; H .1 .2 .7")  # VV10 goes over pairs of points
    # of one level VV10 would take over the grid of the functional
    assert_same(on_both(mol, built, xc="wb97m-v", grid_level=1, nlc_grid_level=0))


def test_effective_core_potentials_and_f_functions():
    mol = molecule(atoms="I 0 0 0; Cl .3 .2 2.3", basis="def2-tzvp")
    assert_same(on_both(mol, builds, xc="pbe"), atol=1e-9)


@pytest.mark.parametrize("spin", [0, 1], ids=["rks", "uks"])
def test_derivatives(spin):
    def work(ks):
        fock = ks.build(ks.data.dm_guess).fock.clone().requires_grad_()
        energy, rebuilt = ks(ks.density(fock))
        loss = energy + (fock - rebuilt).square().sum()
        (grad,) = torch.autograd.grad(loss, fock, create_graph=True)
        (second,) = torch.autograd.grad(grad.square().sum(), fock)
        return loss, grad, second

    assert_same(on_both(molecule(spin), work, xc="pbe0"), atol=1e-8, rtol=1e-9)


@pytest.mark.parametrize("settings", [{}, {"two_grids": False}], ids=["two grids", "one grid"])
@pytest.mark.parametrize("spin", [0, 1], ids=["rks", "uks"])
def test_scf(spin, settings):
    def work(ks):
        found = ks.scf(**settings)
        assert found.converged
        return torch.tensor(found.energy), found.mo_energy

    mol = molecule(spin, atoms="O 0 0 0; H .1 .2 .9; H .9 -.1 -.2")
    assert_same(on_both(mol, work, xc="pbe"), atol=1e-6)


def test_smeared_occupations():
    def work(ks):
        done = ks.scf()
        return torch.tensor(done.free_energy), done.mo_occ, ks.density(done.fock)

    assert_same(on_both(molecule(1), work, xc="pbe", smearing=0.05), atol=1e-6)


@pytest.mark.parametrize("settings", [{"level_shift": 0.2}, {"damp": 0.3}, {"init_guess": "core"}])
def test_aids_of_the_scf(settings):
    def work(ks):
        return torch.tensor(ks.scf(**settings).energy), ks.scf(**settings).mo_occ

    assert_same(on_both(molecule(), work, xc="pbe"), atol=1e-6)


@pytest.mark.parametrize("coupled", [True, False])
def test_certificate(coupled):
    def work(ks):
        dm = ks.density(ks.build(ks.data.dm_guess).fock)
        built = ks.build(dm)
        found = ks.certificate(dm, built.fock, built.energy, coupled=coupled)
        return (torch.tensor([found.energy, found.energy_error_estimate]),)

    mol = molecule(atoms="O 0 0 0; H .1 .2 .9; H .9 -.1 -.2")
    assert_same(on_both(mol, work, xc="pbe"), atol=1e-7)


def test_stability():
    def work(ks):
        done = ks.scf()
        return (torch.tensor(ks.stability(done.dm, done.fock).internal),)

    assert_same(on_both(molecule(), work, xc="pbe"), atol=1e-5)


@pytest.mark.parametrize("xc", ["pbe", "pbe0", "tpss", "m06"])
def test_a_padded_batch_equals_the_cpu_one_by_one(xc):
    moles = [molecule(), molecule(atoms="H 0 0 0; H 0 .1 .74", basis="def2-svp"), molecule(1)]
    batch = KohnShamBatch.from_pyscf(moles, xc=xc, grid_level=0, device="cuda")
    assert batch.strategy == "padded"
    singles = [KohnSham.from_pyscf(mol, xc=xc, grid_level=0) for mol in moles]
    built = batch.build([one.data.dm_guess for one in batch.layers])
    for one, found in zip(singles, built, strict=True):
        wanted = one.build(one.data.dm_guess)
        torch.testing.assert_close(found.fock.cpu(), wanted.fock, rtol=1e-12, atol=1e-10)


def test_the_scf_of_a_batch():
    moles = [molecule(), molecule(atoms="H 0 0 0; H 0 .1 .74")]
    batch = KohnShamBatch.from_pyscf(moles, xc="pbe", grid_level=0, device="cuda")
    for mol, found in zip(moles, batch.scf(), strict=True):
        alone = KohnSham.from_pyscf(mol, xc="pbe", grid_level=0).scf()
        assert found.converged
        assert found.energy == pytest.approx(alone.energy, abs=1e-9)


@pytest.mark.parametrize("spin", [0, 2], ids=["krks", "kuks"])
@pytest.mark.parametrize("xc", ["pbe", "r2scan"])
def test_a_crystal(xc, spin):
    cell = skewed(11, spin)

    def work(ks):
        done = ks.scf()
        assert done.converged
        between = ks.fock_at([[0.1, 0.2, 0.3]], done.dm)
        return torch.tensor(done.energy), torch.view_as_real(between)

    results = []
    for device in ("cuda", "cpu"):
        ks = KohnSham.from_pyscf(cell, kmesh=(2, 1, 1), xc=xc, device=device)
        assert ks.data.ovlp.device.type == device
        results.append([one.detach().cpu() for one in work(ks)])
    assert_same(zip(*results, strict=True), atol=1e-6)
