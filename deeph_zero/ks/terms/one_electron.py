"""Kinetic energy and the nuclei's attraction: E = tr(hP)."""

from collections.abc import Sequence

from deeph_zero.ks.protocol import KSData
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.term import Contribution, Density, Term, trace
from deeph_zero.types import SpinMatrix


class OneElectron(Term):
    """tr(hP), h the core Hamiltonian with effective core potentials."""

    name = "e_core"

    def __init__(self, hcore: SpinMatrix) -> None:
        """Hold h.

        Args:
            hcore: h with a spin axis of length 1, Eh.
        """
        self.hcore = hcore

    @classmethod
    def of(cls, data: KSData) -> "OneElectron":
        """The term of a molecule."""
        return cls(data.hcore.unsqueeze(-3))

    def energy_and_fock(self, at: Density) -> Contribution:
        """tr(hP) and h."""
        return Contribution(trace(self.hcore, at.total), self.hcore)

    @classmethod
    def stacked(cls, terms: "Sequence[OneElectron | None]", padding: Padding) -> Term:
        """One h per molecule; each has one."""
        return cls(padding.stack([term.hcore for term in terms if term is not None]))
