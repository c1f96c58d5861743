"""Classical repulsion of the electrons: E = ½ tr(J[P] P)."""

from collections.abc import Sequence

import torch

from deeph_zero.ks.protocol import KSData, TwoElectron
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.term import Contribution, Density, Responses, Term, trace
from deeph_zero.ks.terms.two_electron_stacked import stacked_operator
from deeph_zero.types import SpinMatrix


class Coulomb(Term):
    """½ tr(J P) of the total density; both spins feel J."""

    name = "e_coul"

    def __init__(self, operator: TwoElectron) -> None:
        """Hold the operator.

        Args:
            operator: 1/r12.
        """
        self.operator = operator

    @classmethod
    def of(cls, data: KSData) -> "Coulomb":
        """The term of a molecule."""
        return cls(data.coulomb)

    def energy_and_fock(self, at: Density) -> Contribution:
        """½ tr(J P) and J."""
        vj = self.operator.coulomb(at.total)
        return Contribution(0.5 * trace(vj, at.total), vj)

    def response(self, at: Density, along: Density) -> SpinMatrix:
        """J of the change."""
        del at
        return self.operator.coulomb(along.total)

    def linearised(self, at: Density) -> Responses:
        """J of all changes in one product."""
        del at

        def responses(changes: Sequence[Density]) -> Sequence[SpinMatrix]:
            return self.operator.coulomb(torch.stack([one.total for one in changes])).unbind(0)

        return responses

    @classmethod
    def stacked(cls, terms: "Sequence[Coulomb | None]", padding: Padding) -> Term:
        """Fitted tensors of all molecules in one; each molecule has one."""
        parts = [term.operator for term in terms if term is not None]
        return cls(stacked_operator(parts, padding))
