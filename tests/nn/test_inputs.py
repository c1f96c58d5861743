"""Inputs as blocks: what goes in comes out, batches keep molecules apart, cutoffs are smooth."""

import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.nn.inputs import collate, node_scalars, smooth_cutoff

ATOMS = (
    "O 0 0 .1; H 0 1.5 1.2; C .3 -3 .9",
    "N 0 0 0; H .3 .2 1.9",
    "C 0 0 .2; O 9 1 0; H .3 2 .1",
)


@pytest.fixture(scope="module")
def cases(make_case):
    """Closed, open and closed shell; the last with atoms beyond the cutoff of 6 bohr."""
    return [
        make_case(ATOMS[0], spin=0, charge=1),
        make_case(ATOMS[1], channels=2, spin=2),
        make_case(ATOMS[2], charge=1, seed=3),
    ]


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_blocks_and_padded_blocks_are_the_matrix(cases):
    for case, spins in zip(cases, (1, 2, 1), strict=True):
        inputs = case.inputs(cutoff=6.0)
        nao = case.layout.nao(case.numbers)
        matrix = random(*((2,) if spins == 2 else ()), nao, nao, seed=nao)
        matrix = matrix + matrix.mT
        blocks = inputs.blocks(matrix)
        (back,) = inputs.matrices(*inputs.padded([blocks]))
        torch.testing.assert_close(back.values, blocks.values, rtol=0, atol=1e-14)
        whole = blocks.to_dense()
        there = whole != 0
        assert torch.equal(whole[there], matrix[there])
        assert bool(there.all()) == (len(blocks) == len(case.numbers) ** 2)
    assert len(inputs.distances) < 6  # two atoms of the last molecule do not see each other


def test_what_comes_out_is_symmetric(cases):
    inputs = cases[0].inputs(cutoff=8.0)
    dim = cases[0].layout.dim
    node, edge = random(3, dim, dim, seed=1), random(len(inputs.distances), dim, dim, seed=2)
    (found,) = inputs.matrices(node, edge)
    assert found.asymmetry() == 0.0
    assert float(found.values.abs().max()) > 1


def test_a_batch_keeps_its_molecules_apart(cases):
    singles = [case.inputs(cutoff=7.0) for case in cases]
    batch = collate([collate(singles[:2]), singles[2]])
    assert batch.n_molecules == 3
    assert batch.n_spins == (1, 2, 1)
    dim = cases[0].layout.dim
    matrices = []
    for k, (one, case) in enumerate(zip(singles, cases, strict=True)):
        nao = case.layout.nao(case.numbers)
        matrix = random(*((2,) if one.n_spins[0] == 2 else ()), nao, nao, seed=k)
        matrices.append(one.blocks(matrix + matrix.mT))
    node, edge = batch.padded(matrices)
    assert node.shape == (sum(len(x.numbers) for x in singles), dim, dim)
    for back, own in zip(batch.matrices(node, edge), matrices, strict=True):
        torch.testing.assert_close(back.values, own.values, rtol=0, atol=1e-14)
    first = 0
    for one in singles:
        stop = first + len(one.numbers)
        assert torch.equal(batch.numbers[first:stop], one.numbers)
        nmat = one.node_inputs.shape[1]
        assert torch.equal(batch.node_inputs[first:stop, :nmat], one.node_inputs)
        assert not batch.node_inputs[first:stop, nmat:].any()
        first = stop
    ends = batch.node_graph[batch.edge_index]
    assert torch.equal(ends[0], ends[1])


def test_one_cutoff_for_a_batch(cases):
    with pytest.raises(InputError, match=r"one cutoff, got \[6.0, 7.0\]"):
        collate([cases[0].inputs(cutoff=6.0), cases[1].inputs(cutoff=7.0)])
    with pytest.raises(InputError, match="one cutoff"):
        collate([])


def test_the_cutoff_ends_with_two_zero_derivatives():
    r = torch.linspace(0.1, 12.0, 2000, dtype=torch.float64, requires_grad=True)
    value = smooth_cutoff(r, 10.0)
    (slope,) = torch.autograd.grad(value.sum(), r, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), r)
    assert bool((value[r <= 6.0] == 1).all())
    assert bool((value[r >= 10.0] == 0).all())
    assert bool((slope <= 0).all())
    assert float(bend.diff().abs().max()) < 0.05  # continuous
    assert float(bend.abs().max()) > 0.1


def test_scalars_of_both_spins_are_mirrored():
    found = node_scalars([8, 1, 1], -1, 1, 2)
    assert found[:, 0].tolist() == [-1.0, -1.0]
    assert found[:, 1].tolist() == [1.0, -1.0]
    assert found[:, 2].tolist() == [1.0, 0.0]  # 6 alpha and 5 beta electrons against 5 and 5
    assert node_scalars([8, 1, 1], 0, 0, 1).tolist() == [[0.0, 0.0, 0.0]]


def test_matrices_of_another_basis_are_refused(cases):
    inputs = cases[0].inputs(cutoff=6.0)
    with pytest.raises(InputError, match="a correction must be a matrix of shape"):
        inputs.blocks(random(4, 4))
    with pytest.raises(InputError, match=r"got .*one molecule|for one molecule"):
        collate([inputs, inputs]).blocks(random(4, 4))
