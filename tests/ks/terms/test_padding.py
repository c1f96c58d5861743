"""Molecules of unlike size in one stack: what is put in comes out, and nothing else is there."""

import torch

from deeph_zero.ks.terms.padding import Padding, padded, widened


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_stacks_come_apart_again():
    padding = Padding([2, 5, 3], nao=6)
    matrices = [random(2, n, n, seed=n) for n in padding.naos]
    stack = padding.stack(matrices)
    assert stack.shape == (3, 2, 6, 6)
    for own, back in zip(matrices, padding.split(stack), strict=True):
        assert torch.equal(own, back)
    assert float(stack.abs().sum()) == float(sum(padding.stack([m, m, m])[0].abs().sum()
                                                 for m in matrices))  # fmt: skip


def test_a_matrix_of_all_spins_gets_an_axis():
    padding = Padding([1, 2])
    assert padding.nao == 2
    stack = padding.stack([random(1, 1, seed=1), random(2, 2, seed=2)])
    assert stack.shape == (2, 1, 2, 2)


def test_widths_and_their_gradient():
    wide = random(2, 3).requires_grad_()
    assert widened(wide, 2, 3) is wide
    stack = padded([wide, wide[:1]], 4, 3)
    stack.sum().backward()
    assert wide.grad is not None
    assert wide.grad.tolist() == [[2.0] * 3, [1.0] * 3]
    assert not stack[1, 1:].any()
