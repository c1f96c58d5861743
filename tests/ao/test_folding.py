"""Blocks of matrices on a mesh of k-points: their Bloch sums are those matrices again."""

import itertools

import pytest
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.folding import fold, on_cells, summed_on_cells

SIZES = (2, 3)
COUNTS = (3, 2, 4)
LATTICE = torch.tensor([[5.0, 0.2, -0.1], [0.4, 6.0, 0.3], [-0.3, 0.6, 4.0]], dtype=torch.float64)
COORDS = torch.tensor([[0.1, 0.2, 0.3], [2.3, 3.1, 1.7]], dtype=torch.float64)


def half_mesh():
    """k = -m/N in the order of a real FFT's half spectrum, and weights that count -k."""
    n1, n2, n3 = COUNTS
    m = torch.tensor(list(itertools.product(range(n1), range(n2), range(n3 // 2 + 1))))
    weights = torch.where((m[:, 2] == 0) | (2 * m[:, 2] == n3), 1.0, 2.0).double()
    return -m / torch.tensor(COUNTS, dtype=torch.float64), weights / (n1 * n2 * n3)


@pytest.fixture
def blocks():
    """A Hermitian matrix whose cells lie within the torus, of two spins."""
    generator = torch.Generator().manual_seed(4)
    pairs = torch.tensor([[0, 0], [0, 0], [1, 1], [0, 1], [1, 0], [0, 1], [1, 0]])
    cells = torch.tensor([[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0], [-1, 0, 0],
                          [1, 0, 0]])  # fmt: skip
    keep = torch.tensor([0, 2, 3, 4, 5, 6])
    made = [torch.randn(2, SIZES[i], SIZES[j], generator=generator, dtype=torch.float64)
            for i, j in pairs[keep].tolist()]  # fmt: skip
    return BlockMatrix.from_blocks(pairs[keep], cells[keep], made, SIZES).hermitian()


def test_bloch_sums_come_back(blocks):
    kpts, weights = half_mesh()
    matrices = blocks.at_k(kpts)
    torus = summed_on_cells(matrices, kpts, weights, COUNTS)
    (found,) = fold([torus], SIZES, COORDS, LATTICE, 1e-12)
    torch.testing.assert_close(found.at_k(kpts), matrices, rtol=0, atol=1e-13)
    assert found.asymmetry() < 1e-13


def test_a_short_matrix_is_its_own_folding(blocks):
    """Blocks between near atoms are put where they were."""
    kpts, weights = half_mesh()
    torus = summed_on_cells(blocks.at_k(kpts), kpts, weights, COUNTS)
    (found,) = fold([torus], SIZES, COORDS, LATTICE, 1e-12)
    place = found.pattern.find(blocks.pairs, blocks.cells)
    assert bool((place >= 0).all())
    for k, own in zip(place.tolist(), blocks.blocks(), strict=True):
        torch.testing.assert_close(found.block(k), own, rtol=0, atol=1e-13)


def test_both_ways_to_the_torus_are_one(blocks):
    kpts, weights = half_mesh()
    matrices = blocks.at_k(kpts)
    both = on_cells(matrices, COUNTS), summed_on_cells(matrices, kpts, weights, COUNTS)
    torch.testing.assert_close(*both, rtol=0, atol=1e-14)


def test_equal_distances_share_a_block():
    """Half-way between two cells a block is put into both, half each."""
    coords = torch.zeros(1, 3).double()
    lattice = torch.diag(torch.tensor([4.0, 5.0, 6.0], dtype=torch.float64))
    torus = torch.zeros(2, 1, 1, 1, 1).double()
    torus[1] = 0.7
    (found,) = fold([torus], (1,), coords, lattice, 1e-12)
    assert sorted(found.cells.tolist()) == [[-1, 0, 0], [1, 0, 0]]
    assert found.values.tolist() == [0.35, 0.35]


def test_small_blocks_are_left_out_where_all_matrices_are_small(blocks):
    kpts, weights = half_mesh()
    torus = summed_on_cells(blocks.at_k(kpts), kpts, weights, COUNTS)
    both = fold([1e-9 * torus, torus], SIZES, COORDS, LATTICE, 1e-6)
    assert len(both[0]) == len(both[1])
    (none,) = fold([1e-9 * torus], SIZES, COORDS, LATTICE, 1e-6)
    assert len(none) == 0
