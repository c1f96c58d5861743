"""All weights of a network as one vector: what is done to every weight is then one operation."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_ALIGNED = 16
"""Numbers between possible starts of a weight: as far apart as where memory of its own starts, so
that matrix products do not change by a bit."""


class FlatWeights:
    """The parameters of a network become views of one vector, which an optimiser can step.

    Attributes:
        vector: All weights, in order; what lies between them stays zero.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        """Move the weights into the vector.

        Args:
            network: All of its parameters have one type and place.
        """
        self._parameters = list(network.parameters())
        sizes = [-(-p.numel() // _ALIGNED) * _ALIGNED for p in self._parameters]
        self._starts = list(itertools.accumulate(sizes, initial=0))
        self.vector = torch.nn.Parameter(self._parameters[0].new_zeros(self._starts[-1]))
        self._gradient = torch.zeros_like(self.vector)
        for parameter, weights in zip(self._parameters, self._views(self.vector.data), strict=True):
            weights.copy_(parameter.data)
            parameter.data = weights
        self._gradients = self._views(self._gradient)

    def _views(self, vector: Tensor) -> list[Tensor]:
        return [
            vector[start : start + p.numel()].view(p.shape)
            for p, start in zip(self._parameters, self._starts, strict=False)
        ]

    @property
    def moved(self) -> bool:
        """Whether the parameters have left the vector, for another device."""
        first = self._parameters[0]
        return first.data_ptr() != self.vector.data_ptr()

    def collect(self) -> Tensor | None:
        """Take the gradients of all parameters away from them, as the gradient of the vector.

        Returns:
            It; or None if no parameter has one.
        """
        grads = [p.grad for p in self._parameters]
        if all(g is None for g in grads):
            self.vector.grad = None
            return None
        for g, to in zip(grads, self._gradients, strict=True):
            if g is None:
                to.zero_()
        pairs = [(to, g) for to, g in zip(self._gradients, grads, strict=True) if g is not None]
        torch._foreach_copy_([to for to, _ in pairs], [g for _, g in pairs])
        for p in self._parameters:
            p.grad = None
        self.vector.grad = self._gradient
        return self._gradient

    def joined(self, values: Sequence[Tensor | None]) -> Tensor:
        """Values per parameter as one vector; zeros where there are none."""
        vector = torch.zeros_like(self._gradient)
        for to, value in zip(self._views(vector), values, strict=True):
            if value is not None:
                to.copy_(value)
        return vector

    def join_state(self, state: dict[str, Any]) -> None:
        """Make an optimiser's state per parameter, as versions before 0.2 kept it, the vector's.

        Args:
            state: ``torch.optim.Adam``'s; changed in place, left alone if it is the vector's.
        """
        group = state["param_groups"][0]
        if len(group["params"]) == 1:
            return
        each: list[Mapping[str, Tensor]] = [state["state"].get(k, {}) for k in group["params"]]
        steps = [found["step"] for found in each if found]
        names = ("exp_avg", "exp_avg_sq") if steps else ()
        joined = {name: self.joined([found.get(name) for found in each]) for name in names}
        state["state"] = {0: {"step": steps[0], **joined}} if steps else {}
        group["params"] = [0]
