"""Base and inputs of crystals of any size, and levels from sparse blocks."""

import numpy as np
import pytest
import scipy.linalg
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.kohnsham import sparse_bands
from deeph_zero.kohnsham.sparse_bands import SparseLevels
from deeph_zero.prepared.crystal import crystal_layout, prepare_crystal
from deeph_zero.prepared.sparse import prepare_sparse

K = [[0.21, -0.13, 0.4], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("unrestricted", [False, True])
def test_large_cells_have_the_inputs_of_small_ones(unrestricted, crystal):
    """The same base and inputs as with a layer, whose k-points and FFT they do without."""
    cell = crystal("chain", ke_cutoff=30)
    layout = crystal_layout(cell)
    settings = {"xc": "pbe", "moments": [0.6, -0.2]} if unrestricted else {"xc": "pbe"}
    settings |= {"cutoff": 6.0, "dtype": torch.float64, "smearing": 0.01}
    dense = prepare_crystal(cell, layout, features="geometry", kmesh=(2, 1, 1), **settings)
    sparse = prepare_sparse(cell, layout, **settings)
    for name in ("node_inputs", "edge_inputs", "decay", "scalars"):
        own, other = getattr(sparse.inputs, name), getattr(dense.inputs, name)
        torch.testing.assert_close(own, other, rtol=0, atol=3e-6)
    assert float(sparse.inputs.edge_inputs[:, 3].abs().max()) > 0.04
    kpts = torch.tensor(K, dtype=torch.float64)
    exact = dense.ks.fock_at(K, potential=dense.potential)
    own = sparse.base.at_k(kpts).reshape(exact.shape)
    torch.testing.assert_close(own, exact, rtol=0, atol=2e-5)
    torch.testing.assert_close(sparse.ovlp.at_k(kpts), dense.ks.overlap_at(K), rtol=0, atol=3e-6)
    if unrestricted:
        assert float((exact[0] - exact[1]).abs().max()) > 0.01
    correction = dense.ovlp.with_values(0.3 * dense.inputs.decay.new_ones(dense.ovlp.pattern.nel))
    if unrestricted:
        correction = correction.with_values(correction.values.expand(2, -1))
    changed = sparse.hamiltonian(correction).at_k(kpts).reshape(exact.shape)
    expected = exact + correction.at_k(kpts).reshape(exact.shape)
    torch.testing.assert_close(changed, expected, rtol=0, atol=2e-5)


def test_what_superposed_atoms_cannot_be_is_refused(crystal):
    cell = crystal("lih")
    layout = crystal_layout(cell)
    with pytest.raises(InputError, match=r"expected a neutral cell .* got charge 1"):
        prepare_sparse(crystal("lih", charge=1, spin=1), layout, cutoff=6.0)
    with pytest.raises(InputError, match=r"expected a semilocal functional .* got pbe0"):
        prepare_sparse(cell, layout, cutoff=6.0, xc="pbe0")
    helium = crystal("helium")
    layout = crystal_layout(helium)
    with pytest.raises(InputError, match="pseudopotentials on all atoms, got none on He"):
        prepare_sparse(helium, layout, cutoff=6.0)


def chain(natm: int, nspin: int) -> tuple[BlockMatrix, BlockMatrix]:
    """Blocks of a ring of unlike atoms, two orbitals each, positive definite overlap."""
    rng = np.random.default_rng(3)
    pairs, cells, h, s = [], [], [], []
    for i in range(natm):
        for step in (0, 1):
            j, away = (i + step) % natm, (i + step) // natm
            block = rng.normal(scale=0.2, size=(nspin, 2, 2))
            near = rng.normal(scale=0.06, size=(2, 2))
            if step == 0:
                block = 0.5 * (block + block.swapaxes(1, 2)) + np.diag([-0.3, 0.4])
                near = np.eye(2)
            both = [(i, j, away, block, near)]
            if step:
                both.append((j, i, -away, block.swapaxes(1, 2), near.T))
            for a, b, c, x, y in both:
                pairs.append([a, b])
                cells.append([c, 0, 0])
                h.append(torch.from_numpy(x[0] if nspin == 1 else x))
                s.append(torch.from_numpy(y))
    keys = torch.tensor(pairs), torch.tensor(cells)
    sizes = [2] * natm
    return BlockMatrix.from_blocks(*keys, h, sizes), BlockMatrix.from_blocks(*keys, s, sizes)


@pytest.mark.parametrize("nspin", [1, 2])
@pytest.mark.parametrize("few", [0, 400])
def test_levels_of_sparse_matrices_are_those_of_dense_ones(nspin, few, monkeypatch):
    monkeypatch.setattr(sparse_bands, "FEW", few)
    h, s = chain(30, nspin)
    own = SparseLevels(h, s)
    kpts, weights = [(0.0, 0, 0), (0.31, 0, 0)], [0.4, 0.6]
    grid = torch.tensor(kpts, dtype=torch.float64)
    hk, sk = h.at_k(grid).reshape(nspin, 2, 60, 60).numpy(), s.at_k(grid).numpy()
    exact = np.array(
        [[scipy.linalg.eigvalsh(hk[x, k], sk[k]) for k in (0, 1)] for x in range(nspin)]
    )
    edges = [-0.9, -0.31, 0.02, 0.5]
    for k in (0, 1):
        counted = (exact[:, k, :, None] < np.array(edges)).sum(1)
        np.testing.assert_array_equal(own.count(kpts[k], edges), counted)
        for spin, found in enumerate(own.at(kpts[k], 9, 0.05)):
            expected = exact[spin, k, found.first : found.first + 9]
            np.testing.assert_allclose(found.energies, expected, atol=1e-9)
            assert (np.abs(found.energies - 0.05) < 0.4).all()
    states = own.density_of_states(kpts, weights, edges)
    counts = np.einsum("k,ske->se", weights, (exact[..., None] < np.array(edges)).sum(2))
    np.testing.assert_allclose(states, np.diff(counts, axis=1) / np.diff(edges))
    found = own.frontier(kpts, weights, 60.0, count=16, start=0.3)
    ladder = np.sort(exact[:, :, :].ravel())
    filled = (exact < found.fermi).sum(2) @ np.array(weights) * 2 / nspin
    assert abs(filled.sum() - 60) < 1.2
    assert found.homo in ladder or np.abs(ladder - found.homo).min() < 1e-9
    warm = own.frontier(kpts, weights, 60.0, count=24, smearing=0.002)
    occupied = 1 / (1 + np.exp(np.clip((exact - warm.fermi) / 0.002, -400, 400)))
    total = (occupied.sum(2) @ np.array(weights)).sum() * 2 / nspin
    assert abs(total - 60) < 1e-6
    with pytest.raises(ComputationError, match="ask for more levels"):
        own.frontier(kpts, weights, 60.0, count=8, smearing=0.2)


@pytest.mark.parametrize("few", [0, 400])
def test_singular_overlaps_are_refused(few, monkeypatch):
    monkeypatch.setattr(sparse_bands, "FEW", few)
    h, s = chain(30, 1)
    for kpt in ((0.0, 0, 0), (0.31, 0, 0)):
        with pytest.raises(InputError, match=r"eigenvalues above 1e-07, got [1-9]"):
            SparseLevels(h, s.with_values(s.values - 0.9 * _ones(s))).count(kpt, [0.0])


def _ones(s: BlockMatrix) -> torch.Tensor:
    """The unit matrix's elements."""
    rows, columns = s.pattern.aos()
    return ((rows == columns) & (s.cells[s.pattern.block_of] == 0).all(1)).double()
