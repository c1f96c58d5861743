"""Inputs that wait: smaller, and bit by bit what they were."""

import dataclasses

import pytest
import torch

from deeph_zero.nn.packed_inputs import PackedInputs, _Sparse

ATOMS = "O 0 0 .1; H 0 1.5 1.2; C .3 -3 .9; H 9 9 9"


@pytest.fixture(scope="module", params=[1, 2])
def inputs(request, make_case):
    spins = request.param
    case = make_case(ATOMS, channels=spins, charge=spins - 1, spin=spins - 1)
    return case.inputs(cutoff=12.0)


def test_everything_comes_back(inputs):
    packed = PackedInputs(inputs)
    back = packed.unpack()
    for field in dataclasses.fields(inputs):
        one, other = getattr(inputs, field.name), getattr(back, field.name)
        if isinstance(one, torch.Tensor):
            assert one.dtype == other.dtype, field.name
            assert torch.equal(one, other), field.name
        elif field.name == "wigner":
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        elif field.name != "patterns":
            assert one == other, field.name
    (one,), (other,) = inputs.patterns, back.patterns
    assert torch.equal(one.pairs, other.pairs)
    assert torch.equal(one.cells, other.cells)
    assert torch.equal(one.dense_places, other.dense_places)
    assert one.sizes == other.sizes


def test_it_is_smaller(inputs):
    whole = sum(t.nbytes for t in vars(inputs).values() if isinstance(t, torch.Tensor))
    assert PackedInputs(inputs).nbytes < 0.75 * whole


def test_zeros_are_left_out_by_column():
    x = torch.zeros(2, 3, 4)
    x[0, 1, 2] = 5.0
    x[1, :, 0] = torch.tensor([1.0, 0.0, -2.0])
    packed = _Sparse.of(x)
    assert packed.values.shape == (2, 3)
    assert torch.equal(packed.dense(), x)
    empty = _Sparse.of(torch.zeros(0, 3, 4))
    assert empty.dense().shape == (0, 3, 4)
