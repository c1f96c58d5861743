"""The torch and libcint engines give one grid the same AO values, for the same few shells."""

import numpy as np
import pytest
import torch
from pyscf import gto
from pyscf.dft import numint

from deeph_zero.integrals.ao_engine import LibcintAO, ShellReach, TorchAO, make_engine
from deeph_zero.integrals.ao_shells import ao_basis
from deeph_zero.integrals.grids import AO_CUTOFF, AOGrid, build_grid
from deeph_zero.kohnsham import KohnSham


def chain(n):
    atoms = [("He", (0.1 * i, -0.2 * i, 3.1 * i)) for i in range(n)]
    return gto.M(atom=atoms, basis="def2-svp", verbose=0)


@pytest.mark.parametrize("deriv", [0, 1])
def test_torch_grid_equals_libcint_grid(deriv):
    mol = chain(6)
    grids = build_grid(mol, 0)
    both = [
        AOGrid(mol, grids, deriv=deriv, block_memory_mb=0.3, ao_engine=name)
        for name in ("libcint", "torch")
    ]
    largest = np.abs(numint.eval_ao(mol, both[0].coords, deriv=deriv)).max()
    for k in range(both[0].n_blocks):
        reference, ours = (grid.block(k) for grid in both)
        assert (reference.index is None) == (ours.index is None)
        if ours.index is not None:
            assert torch.equal(ours.index, reference.index)
        assert ours.rows.is_contiguous()
        assert (ours.ao - reference.ao).abs().max() <= 1e-12 * largest


def test_torch_blocks_are_the_same_when_recomputed():
    mol = chain(5)
    grids = build_grid(mol, 0)
    options = {"deriv": 1, "block_memory_mb": 0.3, "ao_engine": "torch"}
    kept = AOGrid(mol, grids, **options)
    fresh = AOGrid(mol, grids, ao_memory_mb=0.0, **options)
    for k in range(kept.n_blocks):
        first, again = fresh.block(k).ao, fresh.block(k).ao
        assert first is not again
        assert torch.equal(first, again)
        assert torch.equal(first, kept.block(k).ao)


@pytest.mark.parametrize("xc", ["lda,vwn", "pbe", "r2scan"])
def test_energy_and_fock_do_not_depend_on_the_engine(water, xc):
    builds = []
    for name in ("libcint", "torch"):
        ks = KohnSham.from_pyscf(water, xc=xc, grid_level=0, ao_engine=name)
        builds.append(ks.build(ks.data.dm_guess))
    assert float(builds[0].energy - builds[1].energy) == pytest.approx(0.0, abs=1e-11)
    torch.testing.assert_close(builds[1].fock, builds[0].fock, rtol=0, atol=1e-11)


def test_auto_is_libcint_on_the_cpu_and_torch_elsewhere(water):
    coords = np.zeros((2, 3))

    def engine(name, device):
        return make_engine(name, water, ao_basis(water), coords, deriv=0, device=device)

    assert isinstance(engine("auto", "cpu"), LibcintAO)
    assert isinstance(engine("auto", "meta"), TorchAO)
    assert isinstance(engine("torch", "cpu"), TorchAO)


@pytest.mark.parametrize("name", ["libcint", "torch"])
def test_no_shells_no_rows(water, name):
    coords = np.full((5, 3), 200.0)
    engine = make_engine(name, water, ao_basis(water), coords, deriv=1, device="cpu")
    none = np.zeros(water.nbas, dtype=bool)
    assert engine.rows(slice(0, 5), none).shape == (4, 0, 5)


def test_left_out_shells_are_below_the_cutoff():
    mol = chain(12)
    grid = AOGrid(mol, build_grid(mol, 0), deriv=1)
    order = grid.coords[:, 2].argsort()
    coords = grid.coords[order]
    bounds = np.linspace(0, grid.ngrids, 30).astype(int).tolist()
    shells = ShellReach.of(mol, AO_CUTOFF, 1).shells(coords, bounds)
    assert 3 <= shells.sum(1).min() < shells.sum(1).max() < mol.nbas
    for k, chosen in enumerate(shells):
        ao = numint.eval_ao(mol, coords[bounds[k] : bounds[k + 1]], deriv=1)
        left_out = ao[:, :, np.repeat(~chosen, np.diff(mol.ao_loc_nr()))]
        assert np.abs(left_out).max() <= AO_CUTOFF
