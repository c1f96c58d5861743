"""Operators that no density changes: kinetic energy and non-local pseudopotentials."""

from typing import final

from deeph_zero.ks.periodic.types import BlochMatrix, BlochOperator, KWeights, weighted_trace
from deeph_zero.ks.terms.term import Contribution, Density, Term


@final
class FixedOperator(Term):
    """Σ_k w_k tr(h_k P_k)."""

    def __init__(self, name: str, operator: BlochOperator | BlochMatrix, weights: KWeights) -> None:
        """Keep the matrices.

        Args:
            name: Name of the energy.
            operator: h_k, Eh; with a spin axis where the spins feel different ones.
            weights: w_k.
        """
        self.name = name
        self.operator = operator
        self.weights = weights

    def energy_and_fock(self, at: Density) -> Contribution:
        """The energy and h."""
        energy = weighted_trace(self.weights, self.operator, at.dm)
        return Contribution(energy, self.operator.to(at.dm.dtype).expand_as(at.dm))
