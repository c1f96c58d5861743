"""Closed-form readout: the network's last linear maps solved by ridge regression.

The correction is linear in the readout weights, and per irrep type (l, p) on nodes and per O(2)
type in the bond frames the maps decouple into small least-squares problems between features and
the target's own irreps. Solving them costs milliseconds, keeps every symmetry (the maps stay
equivariant) and fits a single molecule to rounding whatever the features are.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ao.blocks import split_irreps
from deeph_zero.nn.frames import split_frame
from deeph_zero.nn.inputs import NetworkInputs, collate
from deeph_zero.nn.layers import TypedLinear
from deeph_zero.nn.model import FockNetwork

DEFAULT_RIDGE = 1e-10
"""Ridge relative to the mean diagonal of the normal matrix."""


@torch.no_grad()
def solve_readout(
    network: FockNetwork,
    inputs: Sequence[NetworkInputs],
    corrections: Sequence[Tensor],
    *,
    ridge: float = DEFAULT_RIDGE,
) -> None:
    """Set the readout weights to the ridge solution nearest to the present ones.

    Minimises Σ ‖features (W₀ + ΔW) - target‖² + λ ‖ΔW‖² per irrep type, in float64.

    Args:
        network: Calibrated network; only ``node_out`` and ``pair_out`` change.
        inputs: One entry per molecule.
        corrections: ΔH = H - F₀ to reproduce, in the same order, Eh.
        ridge: λ relative to the mean diagonal of the normal matrix; larger is smoother.
    """
    batch = collate(list(inputs)) if len(inputs) > 1 else inputs[0]
    node_features, pair_features = network.features(batch.to(dtype=network.dtype))
    exact = batch.to(dtype=torch.float64)
    flat = torch.cat([c.detach().to(exact.distances).reshape(-1) for c in corrections])
    node, edge = exact.blocks(flat)
    species = network.scales.species(batch.numbers)
    present = _present(network).to(exact.distances)

    irreps = network.irreps.matrix.to(exact.distances)
    target = node.flatten(-2) @ irreps / network.scales.node_out[species].double()
    mask = _pairwise(present[species], present[species]) @ irreps.abs() > 1e-8
    _solve_types(
        network.node_out,
        node_features,
        split_irreps(target, network.irreps.keys),
        split_irreps(mask.to(target), network.irreps.keys),
        torch.ones(len(species)).to(target),
        ridge=ridge,
    )
    if batch.edge_index.shape[1] == 0:
        return
    i, j = batch.edge_index
    frame = network.frame.matrix.to(exact.distances)
    strength = exact.envelope * exact.decay
    scale = network.scales.pair_out[species[i], species[j]].double() * strength[:, None]
    in_frame = exact.ao_wigner @ edge @ exact.ao_wigner.mT
    target = in_frame.flatten(-2) @ frame / scale.clamp_min(1e-12)
    mask = _pairwise(present[species[i]], present[species[j]]) @ frame.abs() > 1e-8
    _solve_types(
        network.pair_out,
        pair_features,
        split_frame(target, network.frame.widths),
        split_frame(mask.to(target), network.frame.widths),
        strength,
        ridge=ridge,
    )


def _present(network: FockNetwork) -> Float[Tensor, "element dim"]:
    """1 where an element has the AO slot."""
    layout = network.spec.layout
    out = torch.zeros(len(layout.elements), layout.dim)
    for k, z in enumerate(layout.elements):
        out[k, list(layout.ao_slots(z))] = 1.0
    return out


def _pairwise(a: Tensor, b: Tensor) -> Tensor:
    return (a.unsqueeze(2) * b.unsqueeze(1)).flatten(1)


def _solve_types(
    linear: TypedLinear,
    features: Sequence[Tensor],
    targets: Sequence[Tensor],
    masks: Sequence[Tensor],
    strength: Tensor,
    *,
    ridge: float,
) -> None:
    """One regression per irrep type; rows are (node or pair, component)."""
    for k, (f, t, m, weight) in enumerate(
        zip(features, targets, masks, linear.weights, strict=True)
    ):
        n_out = t.shape[-1]
        if n_out == 0 or f.shape[0] == 0:
            continue
        width = f.shape[-1]
        rows = f.double().reshape(f.shape[0], -1, width)
        bias = linear.bias if k == 0 else None
        old = weight[:width].double()
        if bias is not None:
            rows = torch.cat([rows, torch.ones_like(rows[..., :1])], -1)
            old = torch.cat([old, bias.double().unsqueeze(0)])
        row_weight = strength.unsqueeze(-1).expand(rows.shape[:2]).reshape(-1)
        new = _ridge(
            rows.flatten(0, 1),
            t.reshape(-1, n_out),
            m.reshape(-1, n_out),
            row_weight,
            old,
            ridge=ridge,
        )
        weight[:width] = new[:width].to(weight)
        if bias is not None:
            bias.copy_(new[-1].to(bias))


def _ridge(
    rows: Float[Tensor, "row width"],
    targets: Float[Tensor, "row out"],
    masks: Float[Tensor, "row out"],
    row_weight: Float[Tensor, " row"],
    old: Float[Tensor, "width out"],
    *,
    ridge: float,
) -> Float[Tensor, "width out"]:
    """Ridge solution nearest to ``old``; outputs whose shells an atom lacks ignore its rows."""
    new = old.clone()
    patterns, member = torch.unique(masks, dim=1, return_inverse=True)
    for p in range(patterns.shape[1]):
        weight = row_weight * patterns[:, p]
        used = weight > 0
        if not bool(used.any()):
            continue
        columns = member == p
        a = rows[used] * weight[used].unsqueeze(1)
        b = (targets[used][:, columns] - rows[used] @ old[:, columns]) * weight[used].unsqueeze(1)
        dual = a.shape[0] < a.shape[1]
        normal = a @ a.mT if dual else a.mT @ a
        shift = (ridge * normal.diagonal().mean()).clamp_min(1e-300)
        normal.diagonal().add_(shift)
        change = (
            a.mT @ torch.linalg.solve(normal, b) if dual else torch.linalg.solve(normal, a.mT @ b)
        )
        new[:, columns] = old[:, columns] + change
    return new
