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

_TINY = 1e-30
"""Keeps all-zero features (a lone atom's vectors) from dividing by zero."""


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
    rows = [
        _rows(model, x.to(dtype=model.dtype), c) for x, c in zip(inputs, corrections, strict=True)
    ]
    for part, readout in enumerate((model.node_out, model.pair_out)):
        for k, weight in enumerate(readout.weights):
            samples = [row[part][k] for row in rows]
            change = _ridge(*(torch.cat(parts) for parts in zip(*samples, strict=True)), ridge)
            weight[: len(change)] += change.to(weight)


_Samples = tuple[Tensor, Tensor, Tensor, Tensor]
"""Features [n, c], residual [n, out], filled [n, out], importance [n, 1]."""


def _rows(
    model: FockNetwork, x: NetworkInputs, correction: Tensor
) -> tuple[list[_Samples], list[_Samples]]:
    """Regression samples of one molecule per irrep type, on nodes and on pairs, unit scales."""
    scales, exact = model.scales, x.to(dtype=torch.float64)
    node, pair = scales.targets(exact, correction.to(x.distances.device).double())
    node_filled, pair_filled = scales.filled(exact)
    species = scales.species(x.numbers)
    i, j = x.edge_index
    strength = (exact.envelope * exact.decay)[:, None].clamp(min=_MIN_STRENGTH)
    node = node / scales.node_out[species].double()
    pair = pair / (scales.pair_out[species[i], species[j]].double() * strength)
    node_features, pair_features = model.features(x)
    out, unit = [], torch.ones_like(node[:, :1])
    for features, readout, split, wanted, filled, weight in (
        (node_features, model.node_out, model.split_nodes, node, node_filled, unit),
        (pair_features, model.pair_out, model.split_pairs, pair, pair_filled, strength),
    ):
        parts = zip(features, readout(features), split(wanted), split(filled.double()), strict=True)
        out.append([_samples(f, now, w, m, weight) for f, now, w, m in parts])
    return out[0], out[1]


def _samples(
    features: Tensor, now: Tensor, wanted: Tensor, filled: Tensor, weight: Tensor
) -> _Samples:
    weight = weight.view(-1, *[1] * (wanted.ndim - 1)).expand(*wanted.shape[:-1], 1)
    residual, mask = wanted - now, filled > 0
    flat = [t.reshape(-1, t.shape[-1]) for t in (features.double(), residual, mask, weight)]
    return flat[0], flat[1], flat[2], flat[3]


def _ridge(
    features: Tensor, residual: Tensor, filled: Tensor, importance: Tensor, ridge: float
) -> Tensor:
    """Smallest change of weights W with features W ~ residual, on the filled samples only.

    Output channels with the same filled samples (same shells present) are solved together.
    """
    change = features.new_zeros(features.shape[1], residual.shape[1])
    if features.numel() == 0 or residual.numel() == 0:
        return change
    patterns, member = torch.unique(filled, dim=1, return_inverse=True)
    for p in range(patterns.shape[1]):
        rows, cols = patterns[:, p], (member == p).nonzero()[:, 0]
        if not bool(rows.any()):
            continue
        a, b = (features * importance)[rows], (residual * importance)[rows][:, cols]
        u, s, vt = torch.linalg.svd(a, full_matrices=False)
        damped = s / (s.square() + ridge * a.square().sum() / len(a) + _TINY)
        change[:, cols] = vt.mT @ (damped[:, None] * (u.mT @ b))
    return change
