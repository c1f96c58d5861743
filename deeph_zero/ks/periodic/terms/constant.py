"""Energies of the geometry alone: nuclear (or core) charges by Ewald's sum."""

from typing import final

import torch

from deeph_zero.ks.terms.term import Contribution, Density, Term


@final
class Constant(Term):
    """An energy that no density changes."""

    def __init__(self, name: str, energy: float) -> None:
        """Keep the energy.

        Args:
            name: Name of the energy.
            energy: Eh per cell.
        """
        self.name = name
        self.energy = energy

    def energy_and_fock(self, at: Density) -> Contribution:
        """The energy; no Fock matrix."""
        energy = torch.tensor(self.energy, dtype=torch.float64, device=at.dm.device)
        return Contribution(energy, None)
