"""Bond frames: what turns about the bond, what is mirrored, and that nothing is lost."""

import math

import pytest
import torch

from deeph_zero.ao.rotation import wigner_d
from deeph_zero.ao.shells import BasisLayout
from deeph_zero.nn.frames import (
    SignedPermutation,
    bond_rotations,
    feature_keys,
    frame_basis,
    frame_order,
    join_frame,
    rotate_irreps,
    split_frame,
)

LAYOUT = BasisLayout.from_shells({1: (0, 0, 1), 8: (0, 1, 2)})
NATURAL, PSEUDO = (3, 2, 2), (0, 1, 2)
ANGLE = 0.7


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turn():
    """About the bond, which is y in network axes."""
    c, s = math.cos(ANGLE), math.sin(ANGLE)
    return torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)


def mirror():
    """In a plane through the bond."""
    return torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))


def on_slots(matrix):
    """What a turn or mirror does to the AO slots, parity (-1)^l included."""
    parts = []
    for l in LAYOUT.slot_shells:
        proper = matrix * torch.linalg.det(matrix)
        d = wigner_d(l, proper.unsqueeze(0))[0]
        parts.append(d * torch.linalg.det(matrix) ** l)
    return torch.block_diag(*parts)


def channels(block):
    basis = frame_basis(LAYOUT)
    return split_frame(block.reshape(1, -1) @ basis.matrix, basis.widths)


def angles(before, after, m):
    """By how much a doublet has turned, over m."""
    z, w = (torch.complex(part[m + 1][0, 0], part[m + 1][0, 1]) for part in (before, after))
    return (w / z).angle() / m, (w / z).abs()


def test_bonds_lie_along_the_polar_axis():
    vectors = torch.cat([random(5, 3), torch.tensor([[0, 0, 2.0], [0, -3.0, 0], [1e-9, 1.0, 0]])])
    rotation = bond_rotations(vectors)
    along = (rotation @ vectors.unsqueeze(-1)).squeeze(-1)
    wanted = torch.zeros_like(vectors)
    wanted[:, 1] = vectors.norm(dim=1)
    torch.testing.assert_close(along, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(8).double())
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(8, 3, 3))


def test_channels_are_an_orthogonal_change_of_basis():
    basis = frame_basis(LAYOUT)
    one = torch.eye(LAYOUT.dim**2, dtype=torch.float64)
    torch.testing.assert_close(basis.matrix.mT @ basis.matrix, one, rtol=0, atol=1e-14)
    assert basis.widths[0] + basis.widths[1] + 2 * sum(basis.widths[2:]) == LAYOUT.dim**2


def test_a_turn_about_the_bond_turns_every_doublet_by_its_m():
    block = random(LAYOUT.dim, LAYOUT.dim, seed=1)
    d = on_slots(turn())
    before, after = channels(block), channels(d @ block @ d.mT)
    for k in (0, 1):
        torch.testing.assert_close(after[k], before[k], rtol=0, atol=1e-13)
    signs = set()
    for m in range(1, len(before) - 1):
        angle, size = angles(before, after, m)
        torch.testing.assert_close(size, torch.ones_like(size))
        wrapped = torch.remainder(m * (angle.abs() - ANGLE) + math.pi, 2 * math.pi) - math.pi
        other = torch.remainder(m * (-angle.abs() - ANGLE) + math.pi, 2 * math.pi) - math.pi
        assert float(torch.minimum(wrapped.abs(), other.abs()).max()) < 1e-10
        signs |= {bool(x) for x in (torch.exp(1j * m * (angle - ANGLE)) - 1).abs() < 1e-9}
    assert len(signs) == 1  # all the same way round


def test_a_mirror_keeps_a1_and_conjugates():
    block = random(LAYOUT.dim, LAYOUT.dim, seed=2)
    d = on_slots(mirror())
    before, after = channels(block), channels(d @ block @ d.mT)
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-13)
    torch.testing.assert_close(after[1], -before[1], rtol=0, atol=1e-13)
    for one, other in zip(before[2:], after[2:], strict=True):
        torch.testing.assert_close(other[:, 0], one[:, 0], rtol=0, atol=1e-13)
        torch.testing.assert_close(other[:, 1], -one[:, 1], rtol=0, atol=1e-13)


def features(matrix, flat):
    """Node features turned or mirrored: naturals have parity (-1)^l, pseudos the other."""
    det = torch.linalg.det(matrix)
    parts, first = [], 0
    for l, (n, p) in enumerate(zip(NATURAL, PSEUDO, strict=True)):
        size = (2 * l + 1) * (n + p)
        part = flat[:, first : first + size].unflatten(-1, (2 * l + 1, n + p))
        sign = torch.cat(
            [det**l * torch.ones(n), -(det**l) * (1 if det < 0 else -1) * torch.ones(p)]
        )
        sign = torch.where(det < 0, sign, torch.ones_like(sign))
        parts.append((wigner_d(l, (matrix * det).unsqueeze(0)) @ part * sign).flatten(-2))
        first += size
    return torch.cat(parts, -1)


@pytest.mark.parametrize("kind", ["turn", "mirror"])
def test_features_split_as_blocks_do(kind):
    order = SignedPermutation(frame_order(NATURAL, PSEUDO))
    size = sum((2 * l + 1) * (n + p) for l, (n, p) in enumerate(zip(NATURAL, PSEUDO, strict=True)))
    flat = random(2, size, seed=3)
    matrix = turn() if kind == "turn" else mirror()
    before = split_frame(order.to_frame(flat), order.widths)
    after = split_frame(order.to_frame(features(matrix, flat)), order.widths)
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-12)
    sign = 1.0 if kind == "turn" else -1.0
    torch.testing.assert_close(after[1], sign * before[1], rtol=0, atol=1e-12)
    for m, (one, other) in enumerate(zip(before[2:], after[2:], strict=True), start=1):
        z, w = (torch.complex(x[:, 0], x[:, 1]) for x in (one, other))
        if kind == "mirror":
            torch.testing.assert_close(w, z.conj(), rtol=0, atol=1e-12)
        else:
            ratio = w / z
            torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio), rtol=0, atol=1e-10)
            assert float(ratio[0, 0].real) == pytest.approx(math.cos(m * ANGLE))


def test_permutation_there_and_back_and_its_gradient():
    order = SignedPermutation(frame_order(NATURAL, PSEUDO))
    flat = random(3, order.index.shape[0], seed=4).requires_grad_()
    back = order.from_frame(order.to_frame(flat))
    assert torch.equal(back, flat)
    assert -1 in order.sign.tolist()
    assert torch.autograd.gradcheck(order.to_frame, flat, check_forward_ad=True)
    parts = split_frame(order.to_frame(flat), order.widths)
    assert torch.equal(join_frame(parts), order.to_frame(flat))


def test_irreps_turn_and_turn_back():
    channels = [n + p for n, p in zip(NATURAL, PSEUDO, strict=True)]
    rotation = bond_rotations(random(4, 3, seed=5))
    wigner = [wigner_d(l, rotation) for l in range(3)]
    flat = random(4, sum((2 * l + 1) * c for l, c in enumerate(channels)), seed=6)
    turned = rotate_irreps(flat, wigner, channels)
    assert torch.equal(turned[:, : channels[0]], flat[:, : channels[0]])
    assert float((turned - flat).abs().max()) > 0.1
    back = rotate_irreps(turned, wigner, channels, inverse=True)
    torch.testing.assert_close(back, flat, rtol=0, atol=1e-13)


def test_keys_name_what_is_there():
    assert feature_keys(NATURAL, PSEUDO) == (
        ((0, 1), 3), ((1, -1), 2), ((1, 1), 1), ((2, 1), 2), ((2, -1), 2),
    )  # fmt: skip
