"""Grids and AO blocks against PySCF's numerical integration."""

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.dft import numint

from deeph_zero.integrals.grids import AOGrid, build_grid
from deeph_zero.integrals.guess import density_guess
from deeph_zero.ks.protocol import Grid


@pytest.fixture(scope="module")
def chain():
    """Long enough that far AOs vanish on most blocks."""
    atoms = [("He", (0.1 * i, -0.2 * i, 3.1 * i)) for i in range(8)]
    return gto.M(atom=atoms, basis="def2-svp", verbose=0)


@pytest.fixture(scope="module")
def chain_grid(chain):
    return build_grid(chain, 1)


def density(grid, dm):
    """rho (and gradient) on all points by a plain loop over blocks."""
    parts = []
    for k in range(grid.n_blocks):
        block = grid.block(k)
        local = dm if block.index is None else dm[block.index][:, block.index]
        half = block.ao[0] @ local
        rows = [(half * block.ao[0]).sum(1)]
        rows += [2 * (half * block.ao[i]).sum(1) for i in range(1, len(block.ao))]
        parts.append(torch.stack(rows))
    return torch.cat(parts, dim=1)


def weights(grid):
    return torch.cat([grid.block(k).weights for k in range(grid.n_blocks)])


def test_grid_is_that_of_a_pyscf_mean_field(water):
    mf = dft.RKS(water, xc="pbe")
    mf.grids.build()
    ours = build_grid(water)
    assert np.array_equal(ours.coords, mf.grids.coords)
    assert np.array_equal(ours.weights, mf.grids.weights)


@pytest.mark.parametrize(("deriv", "xctype"), [(0, "LDA"), (1, "GGA")])
def test_density_equals_numint(water, deriv, xctype):
    grids = build_grid(water, 2)
    grid = AOGrid(water, grids, deriv=deriv, block_memory_mb=1.0)
    dm = density_guess(water).numpy()
    used = grids.weights != 0
    ao = numint.eval_ao(water, grids.coords[used], deriv=deriv)
    reference = numint.eval_rho(water, ao, dm, xctype=xctype)
    assert grid.n_blocks > 3
    ours = density(grid, torch.from_numpy(dm)).numpy().reshape(reference.shape)
    np.testing.assert_allclose(ours, reference, atol=1e-11)
    electrons = grid.weights @ np.atleast_2d(ours)[0]
    assert abs(electrons - 10) < 1e-3


def test_screened_columns_change_nothing(chain, chain_grid):
    grid = AOGrid(chain, chain_grid, deriv=1, block_memory_mb=0.5)
    sizes = [grid.block(k).ao.shape[2] for k in range(grid.n_blocks)]
    assert min(sizes) < 0.8 * chain.nao
    dm = density_guess(chain).numpy()
    ao = numint.eval_ao(chain, grid.coords, deriv=1)
    reference = numint.eval_rho(chain, ao, dm, xctype="GGA")
    ours = density(grid, torch.from_numpy(dm)).numpy()
    np.testing.assert_allclose(ours, reference, atol=1e-13)
    exc = numint.NumInt().eval_xc_eff
    energies = [
        float((grid.weights * rho[0]) @ exc("pbe", rho, deriv=0)[0]) for rho in (ours, reference)
    ]
    assert abs(energies[0] - energies[1]) < 1e-12 * abs(energies[1])


def test_index_names_the_columns(chain, chain_grid):
    grid = AOGrid(chain, chain_grid, deriv=1, block_memory_mb=0.5)
    start = 0
    for k in range(grid.n_blocks):
        block = grid.block(k)
        points = grid.coords[start : start + len(block.weights)]
        full = numint.eval_ao(chain, points, deriv=1)
        index = slice(None) if block.index is None else block.index.numpy()
        assert np.array_equal(block.ao.numpy(), full[:, :, index])
        if block.index is not None:
            left_out = np.delete(full, index, axis=2)
            assert np.abs(left_out).max() <= 1e-13
        start += len(points)
    assert start == grid.ngrids


def test_recomputed_blocks_are_identical_to_kept_ones(chain, chain_grid):
    kept = AOGrid(chain, chain_grid, deriv=1, block_memory_mb=0.5)
    fresh = AOGrid(chain, chain_grid, deriv=1, block_memory_mb=0.5, ao_memory_mb=0.0)
    for k in range(kept.n_blocks):
        assert kept.block(k) is kept.block(k)
        assert fresh.block(k) is not fresh.block(k)
        assert kept.block(k).kept
        assert not fresh.block(k).kept
        assert torch.equal(kept.block(k).ao, fresh.block(k).ao)
        assert torch.equal(kept.block(k).weights, fresh.block(k).weights)


def test_kept_blocks_stay_within_the_limit(chain, chain_grid):
    grid = AOGrid(
        chain, chain_grid, deriv=1, block_memory_mb=0.5, ao_memory_mb=3.0, allow_float32=False
    )
    held = [grid.block(k) is grid.block(k) for k in range(grid.n_blocks)]
    assert any(held)
    assert not all(held)
    stored = sum(grid.block(k).ao.numel() * 8 for k in range(grid.n_blocks) if held[k])
    assert 1e6 < stored <= 3e6
    assert grid.memory_bytes == 3_000_000


def test_no_block_exceeds_its_memory(water):
    grid = AOGrid(water, build_grid(water, 3), deriv=1, block_memory_mb=2.0)
    assert max(grid.block(k).ao.numel() for k in range(grid.n_blocks)) * 8 <= 2.0e6
    assert sum(len(grid.block(k).weights) for k in range(grid.n_blocks)) == grid.ngrids


def test_padding_is_dropped(water):
    grids = build_grid(water, 1)
    assert (grids.weights == 0).any()
    grid = AOGrid(water, grids, deriv=0)
    assert grid.ngrids == (grids.weights != 0).sum()
    assert (weights(grid) != 0).all()


def test_cartesian_functions():
    mol = gto.M(atom="O 0 0 .1; H 0 .76 .58", basis="6-31g*", cart=True, charge=-1, verbose=0)
    grid = AOGrid(mol, build_grid(mol, 2), deriv=1)
    rho = density(grid, density_guess(mol))[0]
    assert abs(float(weights(grid) @ rho) - 10) < 2e-3


def test_it_is_a_grid_and_checks_the_block_number(water):
    grid = AOGrid(water, build_grid(water, 0), deriv=0)
    assert isinstance(grid, Grid)
    assert grid.block(0).ao.shape[0] == 1
    assert grid.block(0).rows.is_contiguous()
    with pytest.raises(IndexError, match="got"):
        grid.block(grid.n_blocks)


@pytest.mark.parametrize(("deriv", "cart"), [(0, False), (1, False), (1, True)])
def test_blocks_of_several_molecules_are_made_in_one_stack(deriv, cart):
    cases = [("C 0 0 0; Cl .3 .1 1.7", "cc-pvdz"), ("He 0 0 0; H .1 6 .2", "6-31g")]
    grids = []
    for atom, basis in cases:
        mol = gto.M(atom=atom, basis=basis, cart=cart, verbose=0, charge=1)
        points = build_grid(mol, 0)
        grids.append(AOGrid(mol, points, deriv=deriv, block_memory_mb=0.2))
    blocks = [(grid, k) for grid in grids for k in range(grid.n_blocks)]
    assert not grids[0].stackable, "a processor takes libcint, block by block"
    stack = grids[0].stacked(blocks, nao=99)
    assert len(blocks) > 2
    for b, (grid, k) in enumerate(blocks):
        block = grid.block(k)
        assert grid.shape(k) == tuple(block.ao.shape[1:])
        points, columns = block.ao.shape[1:]
        found = stack.ao[:, b, :points, :columns]
        torch.testing.assert_close(found, block.ao, atol=1e-11, rtol=0)
        assert torch.equal(stack.weights[b, :points], block.weights)
        assert not stack.weights[b, points:].any()
        assert not stack.ao[:, b, :, columns:].any()
        index = torch.arange(grid.nao) if block.index is None else block.index
        assert torch.equal(stack.index[b, :columns], index)
        assert (stack.index[b, columns:] == 99).all()
