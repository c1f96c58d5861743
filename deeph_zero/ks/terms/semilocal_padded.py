"""Semilocal exchange and correlation of a padded stack of molecules."""

from collections.abc import Sequence

from deeph_zero.ks.grid.padded import PaddedGrid
from deeph_zero.ks.protocol import Functional, Grid
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.term import Contribution, Density, Term
from deeph_zero.types import SpinMatrix


class PaddedSemilocal(Term):
    """A functional on the grids of several molecules."""

    name = "e_xc"
    on_grid = True

    def __init__(self, functional: Functional, grids: Sequence[Grid], padding: Padding) -> None:
        """Stack the blocks of all grids.

        Args:
            functional: The functional, one for all molecules.
            grids: One per molecule.
            padding: Their sizes.
        """
        self._functional = functional
        self._grid = PaddedGrid(grids, padding.nao)

    def energy_and_fock(self, at: Density) -> Contribution:
        """E_xc, v_xc and the electrons on the grid of every molecule."""
        v_xc, energies, electrons = self._grid.potential(self._functional, at.dm)
        return Contribution(energies, v_xc, electrons)

    def response(self, at: Density, along: Density) -> SpinMatrix:
        """f_xc times the change of the density variables."""
        return self._grid.response(self._functional, at.dm, along.dm)

    def second(self, at: Density, d1: Density, d2: Density) -> SpinMatrix:
        """The third functional derivative along two changes."""
        return self._grid.second(self._functional, at.dm, d1.dm, d2.dm)
