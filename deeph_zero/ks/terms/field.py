"""A uniform electric field: E = ε · (tr(rP) - Σ_A Z_A R_A), with PySCF users' sign and origin."""

from typing import final

from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks.terms.term import Contribution, Density, Term, trace


@final
class ElectricField(Term):
    """-μ·ε of electrons and nuclei in a field ε; dE/dε = -μ at a stationary density.

    The electrons' part is what PySCF's users add to the core Hamiltonian, h + ε·r about the
    coordinates' origin. Energies of ions depend on the origin, those of neutral molecules do not.
    """

    name = "e_field"

    def __init__(self, position: Float[Tensor, "nao nao"], nuclei: float) -> None:
        """Hold the field's integrals.

        Args:
            position: <m| ε·r |n>, Eh.
            nuclei: -Σ_A Z_A ε·R_A, Eh.
        """
        self._position = position.unsqueeze(-3)
        self._nuclei = nuclei

    def energy_and_fock(self, at: Density) -> Contribution:
        """-μ·ε and ε·r."""
        return Contribution(trace(self._position, at.total) + self._nuclei, self._position)
