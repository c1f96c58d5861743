"""Energies of the geometry alone: the nuclei's repulsion and dispersion corrections (D3, D4)."""

from typing import final

from deeph_zero.ks.protocol import KSData
from deeph_zero.ks.terms.term import Contribution, Density, Term


class _Constant(Term):
    """An energy that no density changes."""

    def __init__(self, energy: float) -> None:
        self._energy = energy

    def energy_and_fock(self, at: Density) -> Contribution:
        """The energy; no Fock matrix."""
        return Contribution(at.dm.new_full((), self._energy), None)


@final
class NuclearRepulsion(_Constant):
    """Repulsion of the nuclei."""

    name = "e_nuc"

    @classmethod
    def of(cls, data: KSData) -> "NuclearRepulsion":
        """That of a molecule."""
        return cls(data.e_nuc)


@final
class Dispersion(_Constant):
    """Dispersion energy of the geometry."""

    name = "e_disp"

    @classmethod
    def of(cls, data: KSData) -> "Dispersion | None":
        """That of a molecule; None without."""
        return cls(data.e_disp) if data.e_disp else None
