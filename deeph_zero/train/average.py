"""Exponential moving average of a network's weights: what is evaluated and saved when it is on."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


class WeightAverage:
    """Running mean of all parameters with a horizon that grows to 1 / (1 - decay) steps.

    The horizon shrinks with the learning rate. What the mean takes out is the noise of large steps;
    where steps are small it would only lag behind.
    """

    def __init__(self, weights: Sequence[Tensor], decay: float) -> None:
        """Bind; the first update copies the weights.

        Args:
            weights: What is averaged; replaced when it moves to another device.
            decay: Weight of the past in an update at the peak learning rate; 0 keeps no average.
        """
        self.weights: Sequence[Tensor] = weights
        self._decay = decay
        self._mean: list[Tensor] = []
        self._updates = 0

    @torch.no_grad()
    def update(self, rate: float = 1.0) -> None:
        """Take the present weights in; early ones are forgotten fast.

        Args:
            rate: The learning rate of the step, as a part of its peak.
        """
        if self._decay <= 0:
            return
        if not self._mean:
            self._mean = [w.detach().clone() for w in self.weights]
        self._updates += 1
        early = 9.0 / (10.0 + self._updates)
        torch._foreach_lerp_(
            self._mean, list(self.weights), min(1.0, max(early, (1.0 - self._decay) / rate))
        )

    def adopt(self) -> None:
        """Make the mean the network's weights, for good."""
        self._exchange(self._mean)

    def clear(self) -> None:
        """Forget the past: the network's weights are the ones that count."""
        self._mean, self._updates = [], 0

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The mean as the network's weights inside the block."""
        own = [w.detach().clone() for w in self.weights] if self._mean else []
        self._exchange(self._mean)
        try:
            yield
        finally:
            self._exchange(own)

    @torch.no_grad()
    def _exchange(self, values: list[Tensor]) -> None:
        for weight, value in zip(self.weights, values, strict=False):
            weight.copy_(value)

    def state(self) -> dict[str, Any]:
        """Everything needed to go on after a restart."""
        return {"updates": self._updates, "mean": [m.clone() for m in self._mean]}

    def restore(self, state: dict[str, Any]) -> None:
        """Undo :meth:`state`."""
        self._updates = int(state["updates"])
        self._mean = [m.to(w) for m, w in zip(state["mean"], self.weights, strict=False)]
