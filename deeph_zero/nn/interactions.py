"""One round of message passing: by O(2) linear maps in bond frames, or by tensor products."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deeph_zero.ao.coupling import wigner_3j
from deeph_zero.nn.aggregate import sum_to_atoms
from deeph_zero.nn.frames import SignedPermutation, feature_keys, frame_order
from deeph_zero.nn.inputs import NetworkInputs
from deeph_zero.nn.layers import GatedMLP, TypedLinear
from deeph_zero.nn.spec import NetworkSpec
from deeph_zero.nn.turns import Turn, from_frames, into_frames

_MESSAGE_NORM = 0.35
"""Messages are summed and multiplied by this: about 1/sqrt of the neighbours of an atom."""


class _Layer(torch.nn.Module):
    """What both kinds share: the layout of node features and their update."""

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.keys = feature_keys(spec.natural, spec.pseudo)
        self.widths = [mult for _, mult in self.keys]
        self.channels = [n + p for n, p in zip(spec.natural, spec.pseudo, strict=True)]
        self.order = SignedPermutation(frame_order(spec.natural, spec.pseudo))
        self.receive = TypedLinear(self.widths, self.widths)
        self.send = TypedLinear(self.widths, self.widths)

    def _node_update(self, spec: NetworkSpec) -> GatedMLP:
        doubled = [2 * w for w in self.widths]
        return GatedMLP(doubled, self.widths, self.widths, condition=spec.embedding, nodes=True)

    def _flat(self, parts: Sequence[Tensor]) -> Tensor:
        """Node features as one vector: per l, components, then natural and pseudo channels."""
        by_l: dict[int, list[Tensor]] = {}
        for ((l, _), _), x in zip(self.keys, parts, strict=True):
            by_l.setdefault(l, []).append(x)
        return torch.cat([torch.cat(by_l[l], -1).flatten(-2) for l in sorted(by_l)], -1)

    def _parts(self, flat: Tensor) -> list[Tensor]:
        """Inverse of :meth:`_flat`."""
        parts = []
        sizes = [(2 * l + 1) * c for l, c in enumerate(self.channels)]
        for l, block in enumerate(flat.split(sizes, -1)):
            mults = [mult for key, mult in self.keys if key[0] == l]
            parts += block.unflatten(-1, (2 * l + 1, self.channels[l])).split(mults, -1)
        return parts

    def _ends(self, nodes: list[Tensor], inputs: NetworkInputs) -> Tensor:
        """Both atoms of every pair, [nedge, n], in molecule axes."""
        i, j = inputs.edge_index
        received, sent = self._flat(self.receive(nodes)), self._flat(self.send(nodes))
        return received.index_select(0, i) + sent.index_select(0, j)

    def _into_frames(self, flat: Tensor, inputs: NetworkInputs) -> list[Tensor]:
        return into_frames(flat, Turn(self.order, self.channels, inputs.wigner))

    def _from_frames(
        self, parts: Sequence[Tensor], inputs: NetworkInputs, weight: Tensor | None = None
    ) -> Tensor:
        return from_frames(parts, Turn(self.order, self.channels, inputs.wigner, weight))

    def _received(
        self, nodes: list[Tensor], message: Tensor, inputs: NetworkInputs
    ) -> list[Tensor]:
        """Node features beside the sum of the messages of their pairs."""
        summed = sum_to_atoms(message, inputs.edge_index[0], nodes[0].shape[0])
        return [torch.cat(two, -1) for two in zip(nodes, self._parts(summed), strict=True)]


class SO2Layer(_Layer):
    """Nodes into the bond frames, pairs updated, messages back, nodes updated."""

    def __init__(self, spec: NetworkSpec) -> None:
        """Weights of one layer."""
        super().__init__(spec)
        self.pair_widths = spec.pair
        both = [a + b for a, b in zip(spec.pair, self.order.widths, strict=True)]
        self.pair = GatedMLP(both, spec.pair, both, condition=spec.embedding, nodes=False)
        self.node = self._node_update(spec)

    def forward(
        self,
        nodes: list[Tensor],
        pairs: list[Tensor],
        element: Tensor,
        condition: Tensor,
        inputs: NetworkInputs,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Updated node features and pair features."""
        inside = self._into_frames(self._ends(nodes, inputs), inputs)
        joined = [torch.cat(two, -1) for two in zip(pairs, inside, strict=True)]
        out = self.pair(joined, condition)
        split = [
            x.split([a, b], -1)
            for x, a, b in zip(out, self.pair_widths, self.order.widths, strict=True)
        ]
        pairs = [x + new for x, (new, _) in zip(pairs, split, strict=True)]
        weight = (inputs.envelope * _MESSAGE_NORM)[:, None]
        message = self._from_frames([m for _, m in split], inputs, weight)
        new = self.node(self._received(nodes, message, inputs), element)
        return [x + y for x, y in zip(nodes, new, strict=True)], pairs


class TensorProductLayer(_Layer):
    """Messages are tensor products of both ends with the bond's harmonics, weighted per pair.

    Every channel of an input irrep is coupled with every harmonic that leads to an irrep of the
    features, with a weight that a small network computes from elements and distance; then channels
    are mixed. Pair features enter and leave through the bond frame, as the Fock blocks do.

    References:
        N. Thomas et al., arXiv:1802.08219, and S. Batzner et al., Nat. Commun. 13, 2453 (2022)
        (the convolution).
    """

    def __init__(self, spec: NetworkSpec) -> None:
        """Weights of one layer."""
        super().__init__(spec)
        inside = self.order.widths
        self.enter = TypedLinear(spec.pair, inside)
        self.paths = _paths([key for key, _ in self.keys])
        found = [0] * len(self.keys)
        for source, _, target in self.paths:
            found[target] += self.widths[source]
        self.mix = TypedLinear(found, self.widths)
        self.path_widths = [self.widths[source] for source, _, _ in self.paths]
        hidden = 2 * spec.embedding
        self.weigh = torch.nn.Sequential(
            torch.nn.Linear(spec.embedding, hidden),
            torch.nn.SiLU(),
            torch.nn.Linear(hidden, sum(self.path_widths)),
        )
        both = [a + b for a, b in zip(spec.pair, inside, strict=True)]
        self.pair = GatedMLP(both, spec.pair, spec.pair, condition=spec.embedding, nodes=False)
        self.node = self._node_update(spec)
        self._couplings: dict[tuple[torch.dtype, torch.device], dict[tuple[int, ...], Tensor]] = {}

    def forward(
        self,
        nodes: list[Tensor],
        pairs: list[Tensor],
        element: Tensor,
        condition: Tensor,
        inputs: NetworkInputs,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Updated node features and pair features."""
        flat = self._ends(nodes, inputs) + self._from_frames(self.enter(pairs), inputs)
        message = self._flat(self.mix(self._products(self._parts(flat), condition, inputs)))
        inside = self._into_frames(message, inputs)
        joined = [torch.cat(two, -1) for two in zip(pairs, inside, strict=True)]
        pairs = [x + y for x, y in zip(pairs, self.pair(joined, condition), strict=True)]
        message = message * (inputs.envelope * _MESSAGE_NORM)[:, None]
        new = self.node(self._received(nodes, message, inputs), element)
        return [x + y for x, y in zip(nodes, new, strict=True)], pairs

    def _products(
        self, parts: list[Tensor], condition: Tensor, inputs: NetworkInputs
    ) -> list[Tensor]:
        """Per target irrep [nedge, 2l+1, channels of all its paths]."""
        weights = self.weigh(condition).split(self.path_widths, -1)
        filters: dict[tuple[int, ...], Tensor] = {}
        found: list[list[Tensor]] = [[] for _ in self.keys]
        for weight, (source, l, target) in zip(weights, self.paths, strict=True):
            ls = self.keys[target][0][0], self.keys[source][0][0], l
            if ls not in filters:
                # the bond is the polar axis of its frame: Y(bond) is what turns into m = 0
                filters[ls] = torch.einsum(
                    "kij,nj->nki", self._coupling(ls, weight), inputs.wigner[l][:, l]
                )
            found[target].append(torch.bmm(filters[ls], parts[source]) * weight.unsqueeze(-2))
        return [torch.cat(x, -1) for x in found]

    def _coupling(self, ls: tuple[int, ...], like: Tensor) -> Tensor:
        """Coefficients [2l3+1, 2l1+1, l+l+1] that keep the size of what they couple."""
        known = self._couplings.setdefault((like.dtype, like.device), {})
        if ls not in known:
            values = wigner_3j(*ls) * math.sqrt(2 * ls[0] + 1)
            known[ls] = values.to(like)
        return known[ls]


def _paths(keys: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(source, l of the harmonic, target) of every allowed coupling."""
    lmax = max(l for l, _ in keys)
    return [
        (a, l, b)
        for (a, (la, pa)), (b, (lb, pb)) in itertools.product(enumerate(keys), repeat=2)
        for l in range(abs(la - lb), min(la + lb, lmax) + 1)
        if pb == pa * (-1) ** l
    ]


LAYERS: dict[str, type[SO2Layer | TensorProductLayer]] = {
    "so2": SO2Layer,
    "tensor-product": TensorProductLayer,
}
