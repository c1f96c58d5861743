"""Equivariant building blocks: linear maps, gated updates of pairs and of nodes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_RESIDUAL_GAIN = 0.3
"""Updates start small beside what they are added to: measured on 64 waters, 0.3 against 1 lowers
the error on unseen geometries after 240 steps and a readout solve from 95 to 71 uEh."""


class TypedLinear(torch.nn.Module):
    """One dense matrix per irrep type; the last axis is the channel axis, others are untouched.

    Serves O(3) (types (l, parity), tensors [..., 2l+1, c]) and O(2) (types A1, A2, E_m, tensors
    [..., c] and [..., 2, c]) alike: by Schur's lemma this is the general equivariant linear map.
    Only the first type, the invariants, may carry a bias.
    """

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        bias: bool = False,
        gain: float = 1.0,
    ) -> None:
        """Weights of variance gain^2 / fan-in."""
        super().__init__()
        self.weights = torch.nn.ParameterList(
            torch.nn.Parameter(gain * torch.randn(i, o) / math.sqrt(i or 1))
            for i, o in zip(inputs, outputs, strict=True)
        )
        self.bias = torch.nn.Parameter(torch.zeros(outputs[0])) if bias else None

    def forward(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Map every part with its own matrix; a narrower part meets the first rows only."""
        out = [x @ prefix(w, x.shape[-1]) for x, w in zip(parts, self.weights, strict=True)]
        if self.bias is not None:
            out[0] = out[0] + self.bias
        return out


def prefix(rows: Tensor, n: int) -> Tensor:
    """The first n rows; the tensor itself when that is all (a slice costs in the backward)."""
    return rows if rows.shape[0] == n else rows[:n]


def invariants(parts: Sequence[Tensor], component_axes: Sequence[int | None]) -> Tensor:
    """Bounded invariants x_a . x_b of the first with the second half of each part's channels."""
    found = []
    for x, axis in zip(parts, component_axes, strict=True):
        half = x.shape[-1] // 2
        a, b = x.split([half, x.shape[-1] - half], -1)
        product = a * b[..., :half]
        found.append(product if axis is None else product.sum(axis))
    joined = torch.cat(found, -1)
    return joined * (1 + joined.square()).rsqrt()


class GatedMLP(torch.nn.Module):
    """Linear, gates driven by scalars and invariants, linear.

    The first type is the scalars: [n, c] in a bond frame, [n, 1, c] on nodes (``nodes``).
    """

    def __init__(
        self,
        inputs: Sequence[int],
        hidden: Sequence[int],
        outputs: Sequence[int],
        *,
        condition: int,
        nodes: bool,
    ) -> None:
        """Build.

        Args:
            inputs: Channels per type in.
            hidden: Channels per type in between.
            outputs: Channels per type out.
            condition: Width of the invariant vector that biases the hidden scalars.
            nodes: Whether every part has a component axis (O(3)) or only the doublets (O(2)).
        """
        super().__init__()
        self.nodes = nodes
        self.axes: list[int | None] = [-2 if nodes or k > 1 else None for k in range(len(hidden))]
        self.first = TypedLinear(inputs, hidden)
        self.condition = torch.nn.Linear(condition, hidden[0])
        self.n_gates = list(hidden[1:])
        n_invariants = sum(h // 2 for h in hidden[1:])
        self.mix = torch.nn.Linear(hidden[0] + n_invariants, hidden[0])
        # a basis of s shells alone has only scalars: nothing to gate
        self.gate = torch.nn.Linear(hidden[0], sum(self.n_gates)) if self.n_gates else None
        self.last = TypedLinear(hidden, outputs, bias=True, gain=_RESIDUAL_GAIN)

    def forward(self, parts: Sequence[Tensor], condition: Tensor) -> list[Tensor]:
        """Parts out; ``condition`` is [n, k]."""
        h = self.first(parts)
        scalars = h[0].squeeze(-2) if self.nodes else h[0]
        scalars = torch.nn.functional.silu(scalars + self.condition(condition))
        found = [scalars] if self.gate is None else [scalars, invariants(h[1:], self.axes[1:])]
        scalars = torch.nn.functional.silu(self.mix(torch.cat(found, -1)))
        gates = () if self.gate is None else self.gate(scalars).sigmoid().split(self.n_gates, -1)
        gated = [
            x * (g if axis is None else g.unsqueeze(axis))
            for x, g, axis in zip(h[1:], gates, self.axes[1:], strict=True)
        ]
        return self.last([scalars.unsqueeze(-2) if self.nodes else scalars, *gated])
