"""The readout that serves the loss best: errors between orbitals, by L-BFGS with features kept.

The closed form fits elements one by one. Levels are sums of many of them, and where functions are
nearly dependent a small error of elements is a large one of levels: the loss sees that. It is
quadratic in the readout, and features need no gradient, so that a pass over the crystals costs a
small part of a pass of gradient steps.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.nn.inputs import NetworkInputs
from deeph_zero.nn.layers import TypedLinear
from deeph_zero.nn.network import FockNetwork
from deeph_zero.train.crystals import Lesson

ROUNDS = 6
"""Times that kept-out crystals are looked at; the best readout stays."""
SETTLING, SETTLING_RIDGE = 3, 1e-4
"""Rounds with all crystals once the weights are chosen, and their ridge. Ten cells of diamond:
bands of six unseen ones from 17.7 and 13.0 meV (two seeds) to 9.0 and 8.2; fourteen of h-BN from
31.9 to 26.8, of graphene from 9.6 to 8.6."""
STEPS = 6
"""Iterations in between."""
REMEMBERED = 20
"""Iterations that L-BFGS remembers."""


@dataclasses.dataclass(frozen=True)
class _Seen:
    """A crystal, and what the readout sees of it in float64."""

    lesson: Lesson
    inputs: NetworkInputs
    features: tuple[list[Tensor], list[Tensor]]
    species: Tensor


def refine_readout(
    network: FockNetwork,
    lessons: Sequence[Lesson],
    *,
    ridge: float,
    measure: Callable[[], float] | None,
    stop: Callable[[], bool],
    rounds: int = ROUNDS,
) -> None:
    """Move the readout downhill in the loss, from where it is.

    Args:
        network: Its scales are set; only ``node_out`` and ``pair_out`` change.
        lessons: What to learn.
        ridge: Relative to the mean diagonal of the normal matrix: directions that features hardly
            have are moved along last.
        measure: Loss of the present network at crystals that were kept out; where it is least, the
            readout stays. None: it stays where it ends.
        stop: Whether to end early.
        rounds: How often iterations go on.
    """
    seen = [_seen(network, lesson) for lesson in lessons]
    readout = _Readout(network, seen, ridge)
    scale = max(float(readout.loss(seen).detach()), 1e-16)
    optimizer = torch.optim.LBFGS(
        readout.moves, max_iter=STEPS, history_size=REMEMBERED, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = readout.loss(seen) / scale
        loss.backward()
        return loss

    best, state = math.inf, copy.deepcopy(network.state_dict())
    if measure is not None:
        best = measure()
    for _ in range(rounds):
        if stop() or not math.isfinite(float(optimizer.step(closure).detach())):
            break
        readout.put_back()
        found = best if measure is None else measure()
        if measure is None or found < best:
            best, state = found, copy.deepcopy(network.state_dict())
    network.load_state_dict(state)


def settle_readout(
    network: FockNetwork, crystals: Sequence[Lesson], *, stop: Callable[[], bool]
) -> None:
    """Let the readout of chosen weights learn from all crystals, those that chose them included.

    Few cells are too dear to only choose: of ten two would never be learnt from.

    Args:
        network: The chosen one; only ``node_out`` and ``pair_out`` change.
        crystals: All of them.
        stop: Whether to end early.
    """
    refine_readout(
        network, crystals, ridge=SETTLING_RIDGE, measure=None, stop=stop, rounds=SETTLING
    )


@torch.no_grad()
def _seen(network: FockNetwork, lesson: Lesson) -> _Seen:
    nodes, pairs = network.features(lesson.inputs.to(dtype=network.dtype))
    return _Seen(
        lesson=lesson,
        inputs=lesson.inputs.to(dtype=torch.float64),
        features=([x.double() for x in nodes], [x.double() for x in pairs]),
        species=network.scales.species(lesson.inputs),
    )


class _Readout:
    """Weights of both maps as moves of coordinates in which features are of one size."""

    def __init__(self, network: FockNetwork, seen: Sequence[_Seen], ridge: float) -> None:
        self._network = network
        self._maps = [
            _Whitened(linear, [one.features[which] for one in seen], ridge)
            for which, linear in enumerate((network.node_out, network.pair_out))
        ]
        self.moves = [move for each in self._maps for move in each.moves]

    def loss(self, seen: Sequence[_Seen]) -> Tensor:
        """Mean over crystals, Eh²."""
        weights = [each.weights() for each in self._maps]
        losses = [one.lesson.loss(self._correction(one, weights)) for one in seen]
        return torch.stack(losses).mean()

    def _correction(self, one: _Seen, weights: Sequence[dict[str, Tensor]]) -> BlockMatrix:
        nodes, pairs = (
            functional_call(each.linear, new, (features,))
            for each, new, features in zip(self._maps, weights, one.features, strict=True)
        )
        blocks = self._network.to_blocks(nodes, pairs, one.inputs, one.species)
        return one.inputs.matrices(*blocks)[0]

    @torch.no_grad()
    def put_back(self) -> None:
        """Give the network the present weights."""
        for each in self._maps:
            for name, value in each.weights().items():
                each.linear.get_parameter(name).copy_(value)


class _Whitened:
    """One of the two maps: W = W₀ + C⁻ᵀ V, C Cᵀ being the normal matrix of its features."""

    def __init__(
        self, linear: TypedLinear, features: Sequence[Sequence[Tensor]], ridge: float
    ) -> None:
        self.linear = linear
        self._start = {name: p.detach().double() for name, p in linear.named_parameters()}
        self._roots: list[Tensor] = []
        self.moves: list[Tensor] = []
        for k, weight in enumerate(linear.weights):
            rows = torch.cat([one[k].flatten(0, -2) for one in features])
            if k == 0 and linear.bias is not None:
                rows = torch.cat([rows, torch.ones_like(rows[:, :1])], -1)
            normal = rows.mT @ rows / len(features)
            shift = ridge * float(normal.diagonal().mean()) if normal.numel() else 0.0
            normal.diagonal().add_(max(shift, 1e-12))
            self._roots.append(torch.linalg.cholesky(normal))
            self.moves.append(rows.new_zeros(len(normal), weight.shape[1]).requires_grad_())

    def weights(self) -> dict[str, Tensor]:
        """By name, with a gradient."""
        found = dict(self._start)
        for k, (root, move) in enumerate(zip(self._roots, self.moves, strict=True)):
            change = torch.linalg.solve_triangular(root.mT, move, upper=True)
            if k == 0 and "bias" in found:
                found["bias"] = found["bias"] + change[-1]
                change = change[:-1]
            name = f"weights.{k}"
            found[name] = torch.cat(
                [found[name][: len(change)] + change, found[name][len(change) :]]
            )
        return found
