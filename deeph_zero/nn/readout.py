"""Closed-form readout: the network's last linear maps solved by ridge regression.

The correction is linear in the readout weights, and per irrep type (l, p) on nodes and per O(2)
type in the bond frames the maps decouple into small least-squares problems between features and
the target's own irreps. Solving them costs milliseconds, keeps every symmetry (the maps stay
equivariant) and fits a single molecule to rounding whatever the features are.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.ao.blocks import split_irreps
from deeph_zero.nn.frames import split_frame
from deeph_zero.nn.inputs import NetworkInputs, collate
from deeph_zero.nn.layers import TypedLinear
from deeph_zero.nn.network import FockNetwork

DEFAULT_RIDGE = 1e-10
"""Ridge relative to the mean diagonal of the normal matrix."""
PART = 64
"""Molecules whose features are in memory at a time."""


@torch.no_grad()
def solve_readout(
    network: FockNetwork,
    inputs: Sequence[NetworkInputs],
    corrections: Sequence[BlockMatrix],
    *,
    ridge: float = DEFAULT_RIDGE,
) -> None:
    """Set the readout weights to the ridge solution nearest to the present ones.

    Minimises Σ ‖features (W₀ + ΔW) - target‖² + λ ‖ΔW‖² per irrep type, in float64. Many molecules
    are gone through in parts, so that memory does not grow with their number.

    Args:
        network: Calibrated network; only ``node_out`` and ``pair_out`` change.
        inputs: One entry per structure.
        corrections: ΔH = H - F₀ to reproduce, in the same order and in the blocks of the inputs
            (:meth:`NetworkInputs.blocks`), Eh.
        ridge: λ relative to the mean diagonal of the normal matrix; larger is smoother.
    """
    systems = [_systems(network, network.node_out, pairs=False)]
    systems.append(_systems(network, network.pair_out, pairs=True))
    alone = len(inputs) <= PART
    for start in range(0, len(inputs), PART):
        part = slice(start, start + PART)
        for each, rows in zip(
            systems, _rows(network, inputs[part], corrections[part]), strict=True
        ):
            for system, one in zip(each, rows, strict=True):
                if alone:
                    system.solve_(*one, ridge=ridge)
                else:
                    system.add(*one)
    if not alone:
        for system in (system for each in systems for system in each):
            system.solve_added_(ridge=ridge)


Rows = tuple[Tensor, Tensor, Tensor, Tensor]
"""Features and targets of one irrep type, [n, component, ..]; class and weight of each row n."""


def _rows(
    network: FockNetwork, inputs: Sequence[NetworkInputs], corrections: Sequence[BlockMatrix]
) -> tuple[list[Rows], list[Rows]]:
    """What the node maps and what the pair maps are fitted to."""
    batch = collate(list(inputs)) if len(inputs) > 1 else inputs[0]
    node_features, pair_features = network.features(batch.to(dtype=network.dtype))
    exact = batch.to(dtype=torch.float64)
    node, edge = exact.padded([c.with_values(c.values.detach().double()) for c in corrections])
    species = network.scales.species(batch)
    irreps = network.irreps.matrix.to(exact.distances)
    target = node.flatten(-2) @ irreps / network.scales.node_out[species].double()
    one = torch.ones(len(species)).to(target)
    targets = split_irreps(target, network.irreps.keys)
    nodes = [(f, t, species, one) for f, t in zip(node_features, targets, strict=True)]
    i, j = batch.edge_index
    frame = network.frame.matrix.to(exact.distances)
    strength = exact.envelope * exact.decay
    scale = network.scales.pair_out[species[i], species[j]].double() * strength[:, None]
    in_frame = exact.ao_wigner @ edge @ exact.ao_wigner.mT
    target = in_frame.flatten(-2) @ frame / scale.clamp_min(1e-12)
    targets = split_frame(target, network.frame.widths)
    kind = species[i] * len(network.spec.elements) + species[j]
    pairs = [(f, t, kind, strength) for f, t in zip(pair_features, targets, strict=True)]
    return nodes, pairs


def _systems(network: FockNetwork, linear: TypedLinear, *, pairs: bool) -> "list[_System]":
    """One regression per irrep type, with what an element (or element pair) has of its outputs."""
    present = _present(network).to(linear.weights[0].device, torch.float64)
    if pairs:
        n = len(present)
        left = present.repeat_interleave(n, 0)
        blocks, matrix = _pairwise(left, present.repeat(n, 1)), network.frame.matrix
    else:
        blocks, matrix = _pairwise(present, present), network.irreps.matrix
    has = (blocks @ matrix.to(blocks).abs() > 1e-8).to(blocks)
    if pairs:
        parts = split_frame(has, network.frame.widths)
    else:
        parts = split_irreps(has, network.irreps.keys)
    # the components of an irrep are there together
    tables = [part if part.ndim == 2 else part[:, 0] for part in parts]
    return [
        _System(weight, linear.bias if k == 0 else None, table)
        for k, (weight, table) in enumerate(zip(linear.weights, tables, strict=True))
    ]


def _present(network: FockNetwork) -> Float[Tensor, "element dim"]:
    """1 where an element has the AO slot."""
    layout = network.spec.layout
    out = torch.zeros(len(layout.elements), layout.dim)
    for k, z in enumerate(layout.elements):
        out[k, list(layout.ao_slots(z))] = 1.0
    return out


def _pairwise(a: Tensor, b: Tensor) -> Tensor:
    return (a.unsqueeze(2) * b.unsqueeze(1)).flatten(1)


class _System:
    """The regression of one irrep type; outputs whose shells an atom lacks ignore its rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None, has: Tensor) -> None:
        self._weight, self._bias = weight, bias
        # outputs that the same classes have share a normal matrix
        self._patterns, self._member = has, torch.arange(0)
        if has.shape[1]:
            self._patterns, self._member = torch.unique(has, dim=1, return_inverse=True)
        self._normal: list[Tensor | None] = [None] * self._patterns.shape[1]
        self._rhs: list[Tensor | None] = [None] * self._patterns.shape[1]
        self._width = 0

    def solve_(self, f: Tensor, t: Tensor, kind: Tensor, strength: Tensor, *, ridge: float) -> None:
        """Solve for these rows alone."""
        if t.shape[-1] == 0 or f.shape[0] == 0:
            return
        new = self._old(f.shape[-1])
        for columns, a, b in self._groups(f, t, kind, strength):
            dual = a.shape[0] < a.shape[1]
            normal = a @ a.mT if dual else a.mT @ a
            normal.diagonal().add_(_shift(normal, ridge))
            if dual:
                change = a.mT @ torch.linalg.solve(normal, b)
            else:
                change = torch.linalg.solve(normal, a.mT @ b)
            new[:, columns] += change
        self._set(new)

    def add(self, f: Tensor, t: Tensor, kind: Tensor, strength: Tensor) -> None:
        """Add rows to the normal equations."""
        if t.shape[-1] == 0 or f.shape[0] == 0:
            return
        self._width = f.shape[-1]
        for columns, a, b in self._groups(f, t, kind, strength):
            p = int(self._member[columns][0])
            normal, rhs = self._normal[p], self._rhs[p]
            self._normal[p] = a.mT @ a if normal is None else normal.addmm_(a.mT, a)
            self._rhs[p] = a.mT @ b if rhs is None else rhs.addmm_(a.mT, b)

    def solve_added_(self, *, ridge: float) -> None:
        """Solve for all rows that were added."""
        if all(normal is None for normal in self._normal):
            return
        new = self._old(self._width)
        for p, (normal, rhs) in enumerate(zip(self._normal, self._rhs, strict=True)):
            if normal is not None and rhs is not None:
                normal.diagonal().add_(_shift(normal, ridge))
                new[:, self._member == p] += torch.linalg.solve(normal, rhs)
        self._set(new)

    def _groups(
        self, f: Tensor, t: Tensor, kind: Tensor, strength: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Outputs that belong together, their weighted rows, and what the old weights leave."""
        width, n_out = f.shape[-1], t.shape[-1]
        rows = f.double().reshape(f.shape[0], -1, width)
        if self._bias is not None:
            rows = torch.cat([rows, torch.ones_like(rows[..., :1])], -1)
        per_row = rows.shape[1]
        rows, targets = rows.flatten(0, 1), t.reshape(-1, n_out)
        old = self._old(width)
        for p in range(self._patterns.shape[1]):
            each = strength * self._patterns[kind, p]
            weight = each.unsqueeze(-1).expand(-1, per_row).reshape(-1, 1)
            used, columns = weight[:, 0] > 0, self._member == p
            if bool(used.any()):
                left = targets[used][:, columns] - rows[used] @ old[:, columns]
                yield columns, rows[used] * weight[used], left * weight[used]

    def _old(self, width: int) -> Tensor:
        old = self._weight[:width].double()
        return old if self._bias is None else torch.cat([old, self._bias.double().unsqueeze(0)])

    def _set(self, new: Tensor) -> None:
        width = len(new) - (self._bias is not None)
        self._weight[:width] = new[:width]
        if self._bias is not None:
            self._bias.copy_(new[-1])


def _shift(normal: Tensor, ridge: float) -> Tensor:
    return (ridge * normal.diagonal().mean()).clamp_min(1e-300)
