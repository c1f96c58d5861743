"""Tensors of several molecules in one copy: the same ones come out."""

import pytest
import torch

from deeph_zero.ks.batch.copies import to_device, to_host


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.int64, torch.bool])
def test_values_shapes_and_order_are_kept(dtype):
    given = [torch.arange(n).reshape(shape).to(dtype) for n, shape in
             ((6, (2, 3)), (1, ()), (0, (0, 4)), (8, (2, 2, 2)))]  # fmt: skip
    found = to_host(given)
    for one, other in zip(found, given, strict=True):
        assert one.dtype == dtype
        assert torch.equal(one, other)


def test_parts_that_lie_apart_are_gathered():
    whole = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    columns, row = to_device([whole[:, ::2], whole[1]], torch.device("cpu"))
    assert torch.equal(columns, whole[:, ::2])
    assert torch.equal(row, whole[1])


def test_what_comes_back_is_a_copy():
    given = torch.zeros(3)
    (found,) = to_host([given])
    given += 1
    assert not found.any()


def test_nothing_needs_no_copy():
    assert to_host([]) == []
    assert to_device([], torch.device("meta")) == []


def test_one_tensor_crosses_for_all(monkeypatch):
    crossed = []
    plain = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda t, *a: crossed.append(t.shape) or plain(t, *a))
    to_host([torch.ones(2, 2), torch.ones(5)])
    assert crossed == [(9,)]
