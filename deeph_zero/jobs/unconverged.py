"""What helps an SCF that did not converge, by how it ended."""

from typing import TYPE_CHECKING, Literal

from deeph_zero.errors import argument
from deeph_zero.ks import occupation
from deeph_zero.ks.given import by_spin

if TYPE_CHECKING:
    from deeph_zero.ks.periodic.result import CrystalSCFResult
    from deeph_zero.ks.scf.result import SCFResult

_End = Literal["early", "fractions", "sloshing", "at rest", "going down"]

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
    end, state = _ended(result, max_cycle=max_cycle, smearing=smearing)
    raised = [] if level_shift else [argument("level_shift", SHIFT)]
    cures = {
        "early": [f"a larger {argument('max_cycle')}"],
        "fractions": [*raised, f"a wider {argument('smearing')}"],
        "sloshing": [
            argument("smearing", WIDTH),
            *([argument("break_symmetry", True)] if result.degenerate else []),
            *raised,
        ],
        "at rest": [f"a larger {argument('conv_tol_grad')}"],
        "going down": [f"a larger {argument('max_cycle')}"],
    }
    return f"{state}; use {' or '.join(cures[end])}"


def advice_of_reference(result: "SCFResult", *, max_cycle: int, labelled: bool) -> str:
    """What to change where the SCF that a model is compared with does not converge.

    Args:
        result: The last iterate; its occupations are whole numbers, as a molecule's model has them.
        max_cycle: Cycles that were allowed.
        labelled: The structure has a label, and the SCF only counts what is saved.

    Returns:
        Where it ended and what helps, without a full stop: ``evaluate`` itself has neither
        smearing, which would be another problem than the model's, nor a level shift.
    """
    end, state = _ended(result, max_cycle=max_cycle, smearing=0.0)
    alone = argument("scf", False)
    apart = f"{alone} and a label made with {argument('level_shift', SHIFT)}"
    cures = {
        "sloshing": [] if labelled else [apart],
        "at rest": [f"a larger {argument('conv_tol')}"],
    }.get(end, [f"a larger {argument('max_cycle')}"])
    cures += [f"{alone}, as it has a label"] if labelled else []
    return f"{state}; use {' or '.join(cures)}"


def _ended(result: "SCFResult", *, max_cycle: int, smearing: float) -> tuple[_End, str]:
    """How the SCF of a molecule ended, and that in words."""
    gap = smallest_gap(result)
    state = f"orbital gradient {result.gradient_norm:.1e} Eh"
    if max_cycle < FEW:
        return "early", state
    if smearing:
        return "fractions", f"{state}, fractional occupations"
    if result.degenerate or gap < SMALL_GAP:
        shown = "a degenerate frontier level" if result.degenerate else f"gap {gap:.1e} Eh"
        return "sloshing", f"{state}, {shown}"
    if result.iterations < max_cycle:
        return "at rest", f"{state}, where it came to rest"
    return "going down", f"{state}, still going down"


def crystal_advice(
    result: "CrystalSCFResult",
    *,
    max_cycle: int,
    smearing: float,
    trained: bool = False,
    labelled: bool = False,
) -> str:
    """What to change so that the SCF of a crystal converges.

    Args:
        result: The last iterate.
        max_cycle: Cycles that were allowed.
        smearing: Width of Fermi occupations, Eh.
        trained: The method is a model's, and occupations are what it was trained with.
        labelled: The structure has a label, and the SCF only counts what is saved.

    Returns:
        Where it ended in parentheses, and what helps, without a full stop.
    """
    cures = [f"use a larger {argument('max_cycle')}"]
    if max_cycle >= FEW and not smearing and result.gap < SMALL_GAP:
        cures = [f"{'train the model with' if trained else 'use'} {argument('smearing', WIDTH)}"]
    cures += [f"{argument('scf', False)}, as it has a label"] if labelled else []
    state = f"(orbital gradient {result.gradient_norm:.1e} Eh, gap {result.gap:.1e} Eh)"
    return f"{state}; {', or '.join(cures)}"
