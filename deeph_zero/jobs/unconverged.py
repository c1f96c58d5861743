"""What helps an SCF that did not converge, by how it ended."""

from typing import TYPE_CHECKING

from deeph_zero.errors import argument
from deeph_zero.ks import occupation
from deeph_zero.ks.given import by_spin

if TYPE_CHECKING:
    from deeph_zero.ks.scf.result import SCFResult

SMALL_GAP = 0.02
"""Eh; levels around a smaller one may change places in every cycle: more cycles are no help."""
WIDTH = 0.01
"""Width of Fermi occupations that is advised, Eh."""
SHIFT = 0.3
"""Level shift that is advised, Eh."""
FEW = 20
"""Cycles that any SCF may take: where fewer are allowed, that was all."""


def smallest_gap(result: "SCFResult") -> float:
    """Lowest empty minus highest filled level of the last Fock matrix.

    Args:
        result: The last iterate.

    Returns:
        That of the spin that has the smaller one, Eh; infinite where no level is empty or none
        filled.
    """
    levels, occupations = (by_spin(x, 1) for x in (result.mo_energy, result.mo_occ))
    return occupation.smallest_gap(levels, occupation.filled_levels(occupations))


def advice(
    result: "SCFResult", *, max_cycle: int, smearing: float = 0.0, level_shift: float = 0.0
) -> str:
    """What to change so that the SCF of a molecule converges.

    DIIS goes on only as long as it makes progress, and second-order steps go down wherever
    occupations are whole numbers: both want more cycles. What keeps moving is occupations that
    change places, or are fractions.

    Args:
        result: The last iterate.
        max_cycle: Cycles that were allowed.
        smearing: Width of Fermi occupations, Eh.
        level_shift: How far virtual orbitals were raised, Eh.

    Returns:
        Where it ended and the options that help, without a full stop.
    """
    gap = smallest_gap(result)
    state = f"orbital gradient {result.gradient_norm:.1e} Eh"
    raised = [] if level_shift else [argument("level_shift", SHIFT)]
    if max_cycle < FEW:
        return f"{state}; use a larger {argument('max_cycle')}"
    if smearing:
        cures = [*raised, f"a wider {argument('smearing')}"]
        return f"{state}, fractional occupations; use {' or '.join(cures)}"
    if result.degenerate or gap < SMALL_GAP:
        cures = [argument("smearing", WIDTH)]
        cures += [argument("break_symmetry", True)] if result.degenerate else []
        shown = "a degenerate frontier level" if result.degenerate else f"gap {gap:.1e} Eh"
        return f"{state}, {shown}; use {' or '.join([*cures, *raised])}"
    if result.iterations < max_cycle:
        return f"{state}, where it came to rest; use a larger {argument('conv_tol_grad')}"
    return f"{state}, still going down; use a larger {argument('max_cycle')}"
