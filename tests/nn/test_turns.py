"""Turns into bond frames: those of plain operations, with their derivatives in one step."""

import pytest
import torch
from torch.autograd import forward_ad

from deeph_zero.ao.rotation import wigner_d
from deeph_zero.nn.frames import SignedPermutation, bond_rotations, frame_order
from deeph_zero.nn.turns import Turn, from_frames, into_frames

NATURAL, PSEUDO = (3, 2, 2), (0, 1, 2)
CHANNELS = [n + p for n, p in zip(NATURAL, PSEUDO, strict=True)]
SIZE = sum((2 * l + 1) * c for l, c in enumerate(CHANNELS))


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make_turn(pairs, *, weighted=True):
    rotation = bond_rotations(random(pairs, 3, seed=5))
    wigner = tuple(wigner_d(l, rotation) for l in range(3))
    order = SignedPermutation(frame_order(NATURAL, PSEUDO))
    return Turn(order, CHANNELS, wigner, random(pairs, 1, seed=7) if weighted else None)


def differentiated(turn):
    """The same turn by plain operations, which know how their rotations change."""
    wigner = tuple(d.clone().requires_grad_() for d in turn.wigner)
    weight = None if turn.weight is None else turn.weight.clone().requires_grad_()
    return turn._replace(wigner=wigner, weight=weight)


def parts_like(turn, seed=1):
    shapes = [([] if k < 2 else [2]) + [w] for k, w in enumerate(turn.order.widths)]
    pairs = len(turn.wigner[0])
    return [random(pairs, *s, seed=seed + k) for k, s in enumerate(shapes)]


# few pairs and many: products of small matrices are made in two ways
@pytest.mark.parametrize("pairs", [3, 100])
@pytest.mark.parametrize("weighted", [True, False])
def test_equal_plain_operations_with_their_gradients(pairs, weighted):
    turn = make_turn(pairs, weighted=weighted)
    plain = differentiated(turn)
    assert turn.constant
    assert not plain.constant
    flat, parts = random(pairs, SIZE).requires_grad_(), parts_like(turn)
    found, wanted = into_frames(flat, turn), into_frames(flat, plain)
    for a, b, p in zip(found, wanted, parts, strict=True):
        assert a.shape == b.shape == p.shape
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    gradients = [torch.autograd.grad(x, flat, parts) for x in (found, wanted)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-13)
    leaves = [p.clone().requires_grad_() for p in parts]
    back, again = from_frames(leaves, turn), from_frames(leaves, plain)
    torch.testing.assert_close(back, again, rtol=0, atol=1e-13)
    both = [torch.autograd.grad(x, leaves, flat.detach()) for x in (back, again)]
    for a, b in zip(*both, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_one_step_with_derivatives_of_every_kind():
    turn = make_turn(2)
    flat = random(2, SIZE, seed=4).requires_grad_()
    leaves = [p.requires_grad_() for p in parts_like(turn)]
    into, back = (lambda x: tuple(into_frames(x, turn))), (lambda *x: from_frames(x, turn))
    assert "_Into" in into(flat)[0].grad_fn.name()
    assert "_From" in back(*leaves).grad_fn.name()
    for function, given in ((into, (flat,)), (back, tuple(leaves))):
        assert torch.autograd.gradcheck(function, given, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(function, given)


def test_a_part_that_does_not_change_has_no_say():
    turn = make_turn(2)
    parts, change = parts_like(turn), random(2, turn.order.widths[0], seed=9)
    with forward_ad.dual_level():
        dual = [forward_ad.make_dual(parts[0], change), *parts[1:]]
        found = forward_ad.unpack_dual(from_frames(dual, turn)).tangent
    zeros = [torch.zeros_like(p) for p in parts[1:]]
    torch.testing.assert_close(found, from_frames([change, *zeros], turn), rtol=0, atol=1e-13)


def test_frames_that_move_are_differentiated():
    turn = make_turn(2)
    flat = random(2, SIZE, seed=4)

    def there_and_back(d1, d2, weight):
        moved = turn._replace(wigner=(turn.wigner[0], d1, d2), weight=weight)
        return from_frames(into_frames(flat, moved), moved)

    given = [x.clone().requires_grad_() for x in (*turn.wigner[1:], turn.weight)]
    assert torch.autograd.gradcheck(there_and_back, given, check_forward_ad=True)
    with forward_ad.dual_level():
        d1 = forward_ad.make_dual(turn.wigner[1], random(2, 3, 3, seed=8))
        assert not turn._replace(wigner=(turn.wigner[0], d1, turn.wigner[2])).constant


def test_back_is_the_inverse():
    turn = make_turn(100, weighted=False)
    flat = random(100, SIZE, seed=6)
    back = from_frames(into_frames(flat, turn), turn)
    torch.testing.assert_close(back, flat, rtol=0, atol=1e-13)
