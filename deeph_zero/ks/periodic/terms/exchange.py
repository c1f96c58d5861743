"""Exact exchange as a term of the energy."""

from typing import final

import torch
from jaxtyping import Bool
from torch import Tensor

from deeph_zero.ks.periodic.exchange import Exchange, ExchangeMatrix
from deeph_zero.ks.periodic.types import BlochMatrix, KWeights, weighted_trace
from deeph_zero.ks.terms.term import Contribution, Density, Term


@final
class ExchangeTerm(Term):
    """-¼ Σ_k w_k tr(K P) of a closed shell, -½ of each spin otherwise; K has its fraction."""

    name = "exchange"

    def __init__(
        self, exchange: Exchange, weights: KWeights, real: Bool[Tensor, " nk"] | None = None
    ) -> None:
        """Keep the map.

        Args:
            exchange: Makes K.
            weights: w_k.
            real: Where -k is k and the density matrix counts as the mean of both, as it does for
                the density: its real part. None where every point stands for itself.
        """
        self.exchange = exchange
        self.weights = weights
        self.real = real

    def energy_and_fock(self, at: Density) -> Contribution:
        """The energy and -K/2, or -K of each spin."""
        fock = self.matrix(at.dm)
        return Contribution(0.5 * weighted_trace(self.weights, fock, at.dm), fock)

    def response(self, at: Density, along: Density) -> BlochMatrix:
        """The matrices of the change: they are linear."""
        del at
        return self.matrix(along.dm)

    def matrix(self, dm: BlochMatrix) -> BlochMatrix:
        """Contribution to the Fock matrix, Eh."""
        return self._mean(self.elsewhere(dm))

    def elsewhere(self, dm: BlochMatrix) -> ExchangeMatrix:
        """Exchange matrices at other k-points than those of the density."""
        return self.exchange(self._mean(dm)) * (-0.5 if len(dm) == 1 else -1.0)

    def _mean(self, dm: Tensor) -> Tensor:
        if self.real is None or not dm.is_complex():
            return dm
        return torch.where(self.real.reshape(-1, 1, 1), dm.real.to(dm.dtype), dm)
