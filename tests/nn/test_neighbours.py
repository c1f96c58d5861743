"""Pairs of atoms: molecules as all with all, crystals as sums over images, and their blocks."""

import numpy as np
import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.nn.neighbours import neighbours

LATTICE = torch.tensor([[4.1, 0.2, 0.0], [1.7, 3.9, -0.3], [0.4, 0.8, 5.2]], dtype=torch.float64)


def some_atoms(n, size, seed=0):
    return size * torch.rand(
        n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def all_with_all(coords, cutoff, cells, lattice):
    """(i, j, R) sorted, by brute force."""
    found = []
    for i, j in np.ndindex(len(coords), len(coords)):
        for cell in cells:
            vector = coords[j] - coords[i] + torch.tensor(cell, dtype=torch.float64) @ lattice
            if 0 < float(vector.norm()) < cutoff:
                found.append((i, j, *cell))
    return sorted(found)


def keys(found):
    return [tuple(k) for k in torch.cat([found.pairs.T, found.cells], 1).tolist()]


@pytest.mark.parametrize("natm", [1, 2, 40])
def test_molecules_have_no_images(natm):
    coords = some_atoms(natm, 12.0)
    found = neighbours(coords, 6.0)
    assert keys(found) == all_with_all(coords, 6.0, [(0, 0, 0)], LATTICE)
    expected = coords[found.pairs[1]] - coords[found.pairs[0]]
    assert torch.equal(found.vectors, expected)


def test_crystals_have_an_atoms_own_images_too():
    coords, cutoff = some_atoms(3, 4.0), 7.5
    span = range(-4, 5)
    cells = [(a, b, c) for a in span for b in span for c in span]
    found = neighbours(coords, cutoff, LATTICE)
    assert keys(found) == all_with_all(coords, cutoff, cells, LATTICE)
    assert sum(i == j for i, j in found.pairs.T.tolist()) > 10
    assert float(found.vectors.norm(dim=1).max()) < cutoff


def test_every_pair_comes_with_its_reverse_at_the_very_edge():
    """Images exactly at the cutoff are all in or all out."""
    cubic = 3.0 * torch.eye(3, dtype=torch.float64)
    for cutoff, count in ((3.0, 0), (3.0 * (1 + 1e-12), 6), (3.0 * 2**0.5 + 1e-9, 18)):
        found = neighbours(torch.zeros(1, 3, dtype=torch.float64), cutoff, cubic)
        assert len(found.vectors) == count
        pattern = found.pattern((2,))
        assert (pattern.partners >= 0).all()


def test_blocks_begin_with_the_atoms_and_know_their_transposed_elements():
    pattern = neighbours(some_atoms(2, 3.0), 5.0, LATTICE).pattern((1, 3))
    assert pattern.pairs[:2].tolist() == [[0, 0], [1, 1]]
    turned = pattern.transposed()
    assert torch.equal(turned[turned], torch.arange(pattern.nel))
    row, column = pattern.aos()
    assert torch.equal(row[turned], column)
    assert torch.equal(pattern.cells[pattern.block_of][turned], -pattern.cells[pattern.block_of])


@pytest.mark.parametrize("lattice", [None, LATTICE])
def test_atoms_at_one_position_are_refused(lattice):
    coords = some_atoms(3, 4.0)
    there = torch.zeros(3, dtype=torch.float64) if lattice is None else lattice[0] - lattice[2]
    coords[2] = coords[1] + there
    with pytest.raises(InputError, match="must be apart, got atoms"):
        neighbours(coords, 6.0, lattice)
