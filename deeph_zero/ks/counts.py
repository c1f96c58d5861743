"""How many Fock builds something cost, on the target grid and on the coarse one."""

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Builds:
    """Fock and response builds.

    Attributes:
        fine: On the target grid.
        coarse: On the coarse grid of an SCF on two grids.
    """

    fine: int = 0
    coarse: int = 0

    def __add__(self, other: "Builds") -> "Builds":
        """Sum of two counts."""
        return Builds(self.fine + other.fine, self.coarse + other.coarse)

    def __sub__(self, other: "Builds") -> "Builds":
        """What came after ``other``."""
        return Builds(self.fine - other.fine, self.coarse - other.coarse)

    def at_least(self, other: "Builds") -> "Builds":
        """The larger of each."""
        return Builds(max(self.fine, other.fine), max(self.coarse, other.coarse))


def total(parts: Iterable[Builds]) -> Builds:
    """Sum of several."""
    return sum(parts, start=Builds())
