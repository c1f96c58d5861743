"""Positions of blocks (i, j, R) and of their elements, against what a dense matrix has there."""

import pytest
import torch

from deeph_zero.ao.block_pattern import BlockPattern
from deeph_zero.ao.shells import BasisLayout

SIZES = (1, 4, 2)
PAIRS = torch.tensor([[0, 1], [2, 1], [1, 0], [1, 2], [2, 2], [2, 2]])
CELLS = torch.tensor([[0, 1, 0], [0, 0, 0], [0, -1, 0], [0, 0, 0], [1, 0, -2], [-1, 0, 2]])


@pytest.fixture
def pattern():
    return BlockPattern(PAIRS, CELLS, SIZES)


def numbered():
    """A matrix in which no two elements are alike, and the same as elements of the blocks."""
    return torch.arange(49).reshape(7, 7)


def elements(pattern, matrix):
    starts = [0, 1, 5]
    parts = [
        matrix[starts[i] : starts[i] + SIZES[i], starts[j] : starts[j] + SIZES[j]].reshape(-1)
        for i, j in pattern.pairs.tolist()
    ]
    return torch.cat(parts)


def test_dense_places_are_those_of_the_blocks(pattern):
    assert pattern.nel == 4 + 8 + 4 + 8 + 4 + 4
    flat = numbered().reshape(-1)
    assert torch.equal(flat[pattern.dense_places], elements(pattern, numbered()))
    assert not pattern.is_home


def test_the_transpose_exchanges_atoms_and_cells(pattern):
    assert pattern.partners.tolist() == [2, 3, 0, 1, 5, 4]
    own, turned = elements(pattern, numbered()), elements(pattern, numbered().mT)
    assert torch.equal(own[pattern.transposed()], turned)
    alone = BlockPattern(PAIRS[:5], CELLS[:5], SIZES)
    assert alone.partners.tolist() == [2, 3, 0, 1, -1]
    with pytest.raises(ValueError, match="one is missing"):
        alone.transposed()


def test_a_block_is_transposed_in_its_own_place(pattern):
    values = torch.arange(pattern.nel)
    where = pattern.adjoint_places()
    start, stop = pattern.offsets[1:3].tolist()
    block = values[start:stop].reshape(2, 4)
    moved = torch.empty_like(values)
    moved[where] = values
    assert torch.equal(moved[start:stop].reshape(4, 2), block.mT)


def test_only_what_is_there_is_found(pattern):
    wanted = torch.tensor([[2, 2], [2, 1], [0, 1], [2, 2]])
    cells = torch.tensor([[-1, 0, 2], [0, 0, 0], [0, 0, 0], [1, 0, -3]])
    assert pattern.find(wanted, cells).tolist() == [5, 1, -1, -1]
    chosen = pattern.elements_of(wanted[:2], cells[:2])
    assert chosen.tolist() == [*range(28, 32), *range(4, 12)]
    with pytest.raises(ValueError, match="one is not there"):
        pattern.elements_of(wanted, cells)
    twice = BlockPattern(PAIRS[[0, 1, 0]], CELLS[[0, 1, 0]], SIZES)
    with pytest.raises(ValueError, match="one is there twice"):
        twice.find(wanted, cells)


def test_functions_in_another_order(pattern):
    places = torch.tensor([0, 2, 0, 3, 1, 1, 0])  # inside the atoms
    whole = places + torch.tensor([0, 1, 1, 1, 1, 5, 5])
    moved = elements(pattern, numbered()[whole][:, whole])
    own = elements(pattern, numbered())
    assert torch.equal(own[pattern.reordered_places(places)], moved)


def test_slots_are_those_of_the_layout(pattern):
    layout = BasisLayout.from_shells({1: (0,), 5: (0, 1), 2: (0, 0)})
    numbers = (1, 5, 2)
    where = pattern.slots(layout, numbers)
    full = torch.full((len(pattern) * layout.dim**2,), -1)
    full[where] = elements(pattern, numbered())
    blocks = full.reshape(len(pattern), layout.dim, layout.dim)
    rows, columns = (torch.tensor(layout.ao_slots(z)) for z in (2, 5))
    assert torch.equal(blocks[1][rows][:, columns], numbered()[5:7, 1:5])
    assert int((full >= 0).sum()) == pattern.nel


def test_of_molecules_and_of_nothing():
    molecule = BlockPattern.of_molecule(SIZES)
    assert molecule.is_home
    assert len(molecule) == 9
    assert molecule.dense_places.sort().values.tolist() == list(range(49))
    nothing = BlockPattern(PAIRS[:0], CELLS[:0], SIZES)
    assert nothing.nel == 0
    assert nothing.find(PAIRS, CELLS).tolist() == [-1] * 6


def test_atoms_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="atoms from 0 to 1, got 0 to 2"):
        BlockPattern(PAIRS, CELLS, SIZES[:2])
