"""Equivariant maps and gates in a bond frame: turns and mirrors go through them."""

import math

import pytest
import torch

from deeph_zero.nn.layers import GatedMLP, TypedLinear, invariants, prefix

IN, HIDDEN, OUT = (4, 2, 6, 4), (6, 4, 4, 2), (3, 2, 4, 2)
"""Channels of A1, A2, E1, E2."""


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        yield


def features(widths, n=5):
    return [torch.randn(n, *([2] if k > 1 else []), w).double() for k, w in enumerate(widths)]


def turned(parts, angle):
    """Doublets of E_m turn by m times the angle."""
    out = list(parts[:2])
    for m, part in enumerate(parts[2:], start=1):
        c, s = math.cos(m * angle), math.sin(m * angle)
        out.append(
            torch.stack([c * part[:, 0] - s * part[:, 1], s * part[:, 0] + c * part[:, 1]], 1)
        )
    return out


def mirrored(parts):
    return [parts[0], -parts[1], *(torch.stack([p[:, 0], -p[:, 1]], 1) for p in parts[2:])]


@pytest.mark.parametrize("move", [lambda p: turned(p, 0.6), mirrored])
def test_maps_and_gates_commute_with_moves(move):
    condition = torch.randn(5, 7).double()
    linear = TypedLinear(IN, OUT, bias=True).double()
    gated = GatedMLP(IN, HIDDEN, OUT, condition=7, nodes=False).double()
    with torch.no_grad():
        for p in gated.parameters():
            p.add_(0.1 * torch.randn_like(p))
    parts = features(IN)
    for one, other in (
        (linear(move(parts)), move(linear(parts))),
        (gated(move(parts), condition), move(gated(parts, condition))),
    ):
        for a, b in zip(one, other, strict=True):
            assert float(b.detach().abs().max()) > 1e-3
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_narrower_inputs_meet_the_first_rows():
    linear = TypedLinear((4,), (3,))
    x = torch.randn(2, 4)
    wide = torch.cat([x[:, :2], torch.zeros(2, 2)], 1)
    assert torch.equal(linear([x[:, :2]])[0], linear([wide])[0])
    rows = torch.randn(3, 2)
    assert prefix(rows, 3) is rows
    assert torch.equal(prefix(rows, 2), rows[:2])


def test_invariants_are_bounded_and_see_a_relative_turn():
    parts = features((4, 4))
    doublet = torch.randn(5, 2, 4).double()
    both = [parts[1], doublet]
    found = invariants(both, [None, -2])
    assert found.shape == (5, 4)
    assert float(invariants([1e6 * p for p in both], [None, -2]).abs().max()) <= 1.0
    half = doublet.clone()
    half[..., 2:] = turned([parts[0], parts[1], doublet[..., 2:]], 1.0)[2]
    assert float((invariants([parts[1], half], [None, -2]) - found).abs().max()) > 0.1


def test_scalars_alone_need_no_gate():
    gated = GatedMLP((3,), (4,), (2,), condition=2, nodes=True)
    (out,) = gated([torch.randn(5, 1, 3)], torch.randn(5, 2))
    assert gated.gate is None
    assert out.shape == (5, 1, 2)
