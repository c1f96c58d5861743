"""Exact exchange with its coefficient: E = -½ Σ_σ tr((c_x K)[P_σ] P_σ) over spin orbitals."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deeph_zero.ks.linalg.factor import Factor
from deeph_zero.ks.protocol import KSData, TwoElectron
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.term import Contribution, Density, Term, trace
from deeph_zero.ks.terms.two_electron_stacked import stacked_operator
from deeph_zero.types import SpinMatrix


class Exchange(Term):
    """c_x K as a sum of operators: one for a global hybrid, two with range separation.

    A closed shell has P_σ = P/2, hence -¼ tr(c_x K[P] P) and -½ c_x K[P] there.
    """

    name = "e_exx"

    def __init__(self, operators: Sequence[tuple[float | Tensor, TwoElectron]]) -> None:
        """Hold the operators.

        Args:
            operators: Coefficient and operator of each part; coefficients of a stack's molecules
                as [nmol, 1, 1, 1].
        """
        self.operators = operators

    @classmethod
    def of(cls, data: KSData) -> "Exchange | None":
        """The term of a molecule; None for a pure functional."""
        operators = data.exchange
        return cls(operators) if operators else None

    def energy_and_fock(self, at: Density) -> Contribution:
        """Energy and -(c_x K)[P_σ]."""
        vk = self._matrix(at, at.factors)
        return Contribution(0.5 * trace(vk, at.dm), vk)

    def response(self, at: Density, along: Density) -> SpinMatrix:
        """-(c_x K) of the change."""
        del at
        return self._matrix(along, None)

    def _matrix(self, at: Density, factors: list[Factor] | None) -> SpinMatrix:
        vk = torch.zeros_like(at.dm)
        for coefficient, operator in self.operators:
            one = operator.exchange(at.dm, factors)
            if isinstance(coefficient, Tensor):
                vk.addcmul_(one, coefficient.to(one))
            else:
                vk.add_(one, alpha=coefficient)
        return vk.mul_(-1.0 / at.occupation)

    @classmethod
    def stacked(cls, terms: "Sequence[Exchange | None]", padding: Padding) -> Term:
        """Fitted tensors of all molecules in one, per operator; each molecule has as many."""
        operators = []
        for parts in zip(*(term.operators for term in terms if term is not None), strict=True):
            operator = stacked_operator([part for _, part in parts], padding)
            operators.append((_common([c for c, _ in parts]), operator))
        return cls(operators)


def _common(coefficients: Sequence[float | Tensor]) -> float | Tensor:
    """One number where all molecules have the same."""
    if len(set(coefficients)) == 1:
        return coefficients[0]
    return torch.tensor(coefficients, dtype=torch.float64).reshape(-1, 1, 1, 1)
