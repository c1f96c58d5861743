"""Energies of the geometry alone: the nuclei's repulsion and dispersion corrections (D3, D4)."""

from collections.abc import Sequence
from typing import final

import torch

from deeph_zero.ks.parallel.uploads import sent
from deeph_zero.ks.protocol import KSData
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.term import Contribution, Density, Term


class _Constant(Term):
    """An energy that no density changes."""

    def __init__(self, energy: float) -> None:
        self.energy = energy

    def energy_and_fock(self, at: Density) -> Contribution:
        """The energy; no Fock matrix."""
        return Contribution(at.dm.new_full((), self.energy), None)

    @classmethod
    def stacked(cls, terms: "Sequence[_Constant | None]", padding: Padding) -> Term:
        """The energies of all molecules, 0 for one without."""
        del padding
        name = next(term.name for term in terms if term is not None)
        return _Constants(name, [0.0 if term is None else term.energy for term in terms])


class _Constants(Term):
    """Such energies of a stack of molecules."""

    def __init__(self, name: str, energies: Sequence[float]) -> None:
        self.name = name
        self._energies = torch.tensor(energies, dtype=torch.float64)

    def energy_and_fock(self, at: Density) -> Contribution:
        """The energies; no Fock matrix."""
        self._energies = sent(self._energies, at.dm.device)  # a copy once
        return Contribution(self._energies, None)


@final
class NuclearRepulsion(_Constant):
    """Repulsion of the nuclei."""

    name = "e_nuc"

    @classmethod
    def of(cls, data: KSData) -> "NuclearRepulsion":
        """The term of a molecule."""
        return cls(data.e_nuc)


@final
class Dispersion(_Constant):
    """Dispersion energy of the geometry."""

    name = "e_disp"

    @classmethod
    def of(cls, data: KSData) -> "Dispersion | None":
        """The term of a molecule; None without a dispersion correction."""
        return cls(data.e_disp) if data.e_disp else None
