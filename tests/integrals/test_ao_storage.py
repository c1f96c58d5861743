"""Blocks are kept in float64, kept partly in float32, or recomputed; the energy hardly notices."""

import dataclasses

import numpy as np
import pytest
import torch
from pyscf import dft, gto

from deeph_zero.integrals import ao_storage, grids
from deeph_zero.integrals.ao_storage import AOStore, RoundingBound, choose_precision
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.protocol import AOBlock

LEVEL = 0


@pytest.fixture(scope="module")
def ethanol():
    atoms = """C 1.17 -0.41 0.03; C 0.02 0.57 -0.02; O -1.19 -0.24 0.04; H 1.13 -1.07 0.92
    H 1.13 -1.03 -0.86; H 2.13 0.13 0.01; H 0.06 1.21 -0.89; H 0.04 1.19 0.88; H -1.95 0.35 -0.03"""
    return gto.M(atom=atoms, basis="def2-svp", verbose=0)


@pytest.fixture(scope="module", autouse=True)
def _small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "CACHE_MB", 0.1)
        patch.setattr(grids, "CACHED_BLOCK_POINTS", grids.MIN_BLOCK_POINTS)
        yield


@pytest.fixture(scope="module")
def exact(ethanol):
    return {xc: layer(ethanol, xc) for xc in ("lda,vwn", "pbe", "r2scan")}


def layer(mol, xc, **limits):
    return KohnSham.from_pyscf(mol, xc=xc, grid_level=LEVEL, **limits)


def needed_mb(ks):
    return ks.data.grid.memory_bytes / 1e6


def single_columns(ks):
    """Bytes of float32 values in the store."""
    kept = ks.data.grid._store._kept.values()
    return sum(block.single.numel() * 4 for block in kept if hasattr(block, "single"))


def change(ours, reference):
    """Energy and Fock matrix at one density, minus the reference's."""
    dm = reference.data.dm_guess
    a, b = ours.build(dm), reference.build(dm)
    return abs(float(a.energy - b.energy)), float((a.fock - b.fock).abs().max())


def block_of(ao, index=None):
    weights = torch.ones(ao.shape[1], dtype=torch.float64)
    return AOBlock(ao=ao, index=index, weights=weights)


def test_precision_follows_the_memory():
    assert choose_precision(100, 100) == "double"
    assert choose_precision(101, 100) == "mixed"


def test_everything_stays_double_when_it_fits(exact):
    for ks in exact.values():
        ks.build(ks.data.dm_guess)
        assert single_columns(ks) == 0
        assert len(ks.data.grid._store._kept) == ks.data.grid.n_blocks


@pytest.mark.parametrize("xc", ["lda,vwn", "pbe"])
@pytest.mark.parametrize("share", [0.95, 0.3])
def test_short_memory_rounds_columns_and_changes_nothing(ethanol, exact, xc, share):
    ks = layer(ethanol, xc, ao_memory_mb=share * needed_mb(exact[xc]))
    energy, fock = change(ks, exact[xc])
    store = ks.data.grid._store
    assert single_columns(ks) > 0.01 * store.used_bytes
    assert ks.data.grid.kept_bytes == store.used_bytes
    assert store.used_bytes <= share * needed_mb(exact[xc]) * 1e6
    assert (len(store._kept) < ks.data.grid.n_blocks) == (share < 0.5)
    assert energy < 1e-9
    assert fock < 1e-9


def test_rounding_everything_would_be_too_much(ethanol, exact, monkeypatch):
    monkeypatch.setattr(ao_storage, "ENERGY_ERROR", 1e9)
    ks = layer(ethanol, "pbe", ao_memory_mb=0.9 * needed_mb(exact["pbe"]))
    energy, _ = change(ks, exact["pbe"])
    bound = ks.data.grid._store._bound
    grid = exact["pbe"].data.grid
    total = sum(float(bound.of_columns(grid.block(k)).sum()) for k in range(grid.n_blocks))
    assert single_columns(ks) == ks.data.grid._store.used_bytes
    assert 1e-9 < energy < total


def test_the_bounds_of_all_rounded_columns_add_up_to_the_limit(ethanol, exact):
    ks = layer(ethanol, "pbe", ao_memory_mb=0.9 * needed_mb(exact["pbe"]))
    grid, bound = exact["pbe"].data.grid, ks.data.grid._store._bound
    spent = 0.0
    for k in range(grid.n_blocks):
        block = grid.block(k)
        spent += float(bound.of_columns(block)[bound.single(block)].sum())
    assert 0.1 * ao_storage.ENERGY_ERROR < spent <= ao_storage.ENERGY_ERROR


def test_meta_ggas_stay_double(ethanol, exact):
    ks = layer(ethanol, "r2scan", ao_memory_mb=0.5 * needed_mb(exact["r2scan"]))
    assert change(ks, exact["r2scan"]) == (0.0, 0.0)
    assert single_columns(ks) == 0
    assert 0 < len(ks.data.grid._store._kept) < ks.data.grid.n_blocks


def test_no_memory_recomputes_everything_exactly(ethanol, exact):
    ks = layer(ethanol, "pbe", ao_memory_mb=0.0)
    assert change(ks, exact["pbe"]) == (0.0, 0.0)
    assert len(ks.data.grid._store._kept) == 0


@pytest.mark.parametrize("share", [0.9, 0.4, 0.0])
def test_a_block_is_the_same_at_every_call(ethanol, exact, share):
    ks = layer(ethanol, "pbe", ao_memory_mb=share * needed_mb(exact["pbe"]))
    grid = ks.data.grid
    first = [grid.block(k) for k in range(grid.n_blocks)]
    for k, block in enumerate(first):
        again = grid.block(k)
        assert torch.equal(again.ao, block.ao)
        assert again.ao.dtype == torch.float64
        assert (again.index is None) == (block.index is None)
        assert again.index is None or torch.equal(again.index, block.index)


def test_density_bound_holds_for_real_densities(ethanol, exact):
    ks = exact["pbe"]
    dm = ks.density(ks.build(ks.data.dm_guess).fock)
    s = torch.from_numpy(ethanol.intor("int1e_ovlp"))
    q = ao_storage.rounding_bound(s, 1e-6, 1).q
    assert bool((dm.abs() <= q[:, None] * q).all())
    unit = ao_storage.rounding_bound(torch.eye(3, dtype=torch.float64), 1e-6, 1)
    torch.testing.assert_close(unit.q, torch.full((3,), 2.0, dtype=torch.float64).sqrt())


@pytest.mark.parametrize("xc", ["lda,vwn", "pbe", "revpbe", "blyp", "bp86", "b3lyp", "pw91"])
def test_functional_derivatives_obey_the_assumed_bounds(ethanol, exact, xc):
    dm = exact["pbe"].data.dm_guess.numpy()
    ni = dft.numint.NumInt()
    coords = exact["pbe"].data.grid.coords
    kind = ni._xc_type(xc)
    ao = ni.eval_ao(ethanol, coords, deriv=0 if kind == "LDA" else 1)
    rho = np.atleast_2d(ni.eval_rho(ethanol, ao, dm, xctype=kind, hermi=1))
    derivatives = ni.eval_xc_eff(xc, rho if kind == "GGA" else rho[0], deriv=1)[1]
    derivatives = np.atleast_2d(derivatives)
    assert 0.1 < np.abs(derivatives[0] / (1 + 3 * np.cbrt(rho[0].clip(0)))).max() < 1.0
    assert np.abs(derivatives[1:]).max(initial=0.0) < 1.0


def test_the_sign_of_a_weight_does_not_matter(rng):
    ao = torch.randn(4, 20, 4, generator=rng, dtype=torch.float64)
    bound = RoundingBound(torch.ones(4, dtype=torch.float64), 1e-12)
    block = block_of(ao)
    flipped = dataclasses.replace(block, weights=-block.weights)
    assert torch.equal(bound.of_columns(flipped), bound.of_columns(block))
    assert bool((bound.of_columns(block) > 0).all())


def test_store_keeps_what_fits_and_says_no_once(rng):
    ao = torch.randn(4, 10, 3, generator=rng, dtype=torch.float64)
    store = AOStore(2 * ao.numel() * 8)
    blocks = [block_of(ao + k) for k in range(3)]
    offered = [store.offer(k, block) for k, block in enumerate(blocks)]
    assert all(found.ao is block.ao for found, block in zip(offered, blocks, strict=True))
    assert [found.kept for found in offered] == [True, True, False]
    assert [store.find(k) is not None for k in range(3)] == [True, True, False]
    assert store.used_bytes == 2 * ao.numel() * 8
    store.offer(2, block_of(ao[:, :1]))
    assert store.find(2) is None


def test_a_block_is_kept_in_one_precision_the_exact_one_if_both_are_asked_for(rng):
    ao = torch.randn(4, 10, 3, generator=rng, dtype=torch.float64)
    half = ao.numel() * 4
    store = AOStore(3 * half)
    first = store.offer_single(0, block_of(ao))
    assert first.kept
    assert torch.equal(first.ao, ao.float())
    assert (store.find(0), store.used_bytes) == (None, half)
    assert store.find_single(0) is first
    assert store.offer_single(1, block_of(ao + 1), taken=half).kept
    assert not store.offer_single(2, block_of(ao + 2), taken=half).kept, "others have the rest"
    assert store.find_single(2) is None
    assert store.offer(0, block_of(ao)).kept, "what is forgotten makes room"
    assert store.used_bytes == 3 * half
    rounded = store.find_single(0)
    assert torch.equal(rounded.ao, first.ao)
    assert not rounded.kept
    assert not store.offer(1, block_of(ao + 1)).kept
    assert store.find_single(1).kept, "no room for the exact one: the other stays"
    assert AOStore(0).offer_single(0, block_of(ao)).ao.dtype == torch.float32


def test_rounded_columns_come_last_with_their_numbers(rng):
    ao = torch.randn(1, 20, 4, generator=rng, dtype=torch.float64)
    ao[:, :, 1] *= 1e-12
    block = block_of(ao, torch.tensor([2, 5, 6, 9]))
    every = block_of(ao)
    bound = RoundingBound(torch.ones(10, dtype=torch.float64), 1e-12)
    assert bound.single(block).tolist() == [False, True, False, False]
    kept = AOStore(10**6, bound).offer(0, block)
    assert kept.index.tolist() == [2, 6, 9, 5]
    assert torch.equal(kept.ao[:, :, :3], ao[:, :, [0, 2, 3]])
    assert torch.equal(kept.ao[:, :, 3], ao[:, :, 1].float().double())
    assert not torch.equal(kept.ao[:, :, 3], ao[:, :, 1])
    whole = RoundingBound(torch.ones(4, dtype=torch.float64), 1e-12)
    assert AOStore(10**6, whole).offer(0, every).index.tolist() == [0, 2, 3, 1]
