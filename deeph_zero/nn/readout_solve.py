"""Closed-form fit of the linear readout: the exact finish that gradient descent creeps towards.

The readout is linear in its weights, one dense matrix per irrep type. With the features held fixed,
the best weights are a ridge regression on the current residual. For one molecule the features
outnumber the matrix elements and the fit is exact up to what symmetry allows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from deeph_zero.nn.inputs import NetworkInputs
from deeph_zero.nn.model import FockNetwork

_MIN_STRENGTH = 1e-3
"""Pairs whose cutoff and overlap factor is below this carry no information for the fit."""


@torch.no_grad()
def solve_readout(
    model: FockNetwork,
    inputs: Sequence[NetworkInputs],
    corrections: Sequence[Tensor],
    *,
    ridge: float = 1e-7,
) -> None:
    """Set the readout weights to the ridge solution for the given corrections, in place.

    Args:
        model: The network; only the weights of its last linear maps change.
        inputs: One entry per molecule.
        corrections: Wanted Delta_H per molecule, Eh, in the same order.
        ridge: Penalty on the change of the weights, relative to the mean squared feature.
    """
    node_rows: list[tuple[list[Tensor], list[Tensor], list[Tensor]]] = []
    pair_rows: list[tuple[list[Tensor], list[Tensor], list[Tensor]]] = []
    for x, correction in zip(inputs, corrections, strict=True):
        node, pair = _rows(model, x.to(dtype=model.dtype), correction)
        node_rows.append(node)
        pair_rows.append(pair)
    for readout, rows in ((model.node_out, node_rows), (model.pair_out, pair_rows)):
        for k, weight in enumerate(readout.weights):
            features, residual, importance = (
                torch.cat([_samples(row[part][k]) for row in rows]) for part in range(3)
            )
            change = _ridge(features, residual, importance[:, :1], ridge)
            weight[: len(change)] += change.to(weight)


def _rows(
    model: FockNetwork, x: NetworkInputs, correction: Tensor
) -> tuple[tuple[list[Tensor], ...], tuple[list[Tensor], ...]]:
    """(features, residual, weight) of one molecule per type, on nodes and on pairs, unit scales."""
    node_features, pair_features = model.features(x)
    node, pair = model.scales.targets(
        x.to(dtype=torch.float64), correction.to(x.distances.device).double()
    )
    species = model.scales.species(x.numbers)
    i, j = x.edge_index
    strength = (x.envelope * x.decay).double()[:, None]
    node = node / model.scales.node_out[species].double()
    pair = pair / (
        model.scales.pair_out[species[i], species[j]].double() * strength.clamp(min=_MIN_STRENGTH)
    )
    node_wanted = model.split_nodes(node)
    pair_wanted = model.split_pairs(pair)
    node_now, pair_now = model.node_out(node_features), model.pair_out(pair_features)
    node_weight = [torch.ones_like(t) for t in node_wanted]
    pair_weight = [strength.view(-1, *[1] * (t.ndim - 1)).expand_as(t) for t in pair_wanted]
    return (
        (node_features, [w - n for w, n in zip(node_wanted, node_now, strict=True)], node_weight),
        (pair_features, [w - n for w, n in zip(pair_wanted, pair_now, strict=True)], pair_weight),
    )


def _samples(x: Tensor) -> Tensor:
    return x.double().reshape(-1, x.shape[-1])


def _ridge(features: Tensor, residual: Tensor, importance: Tensor, ridge: float) -> Tensor:
    """Smallest change of weights W with features W ~ residual, rows weighted by importance."""
    a, b = features * importance, residual * importance
    if a.numel() == 0 or b.shape[-1] == 0:
        return features.new_zeros(features.shape[1], residual.shape[1])
    u, s, vt = torch.linalg.svd(a, full_matrices=False)
    damped = s / (s.square() + ridge * a.square().sum() / len(a))
    return vt.mT @ (damped[:, None] * (u.mT @ b))
