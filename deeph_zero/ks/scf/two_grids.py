"""SCF on two grids: iterate on a coarse one, correct it by the target grid, confirm there.

F_fine[P] = F_coarse[P] + D[P], and D hardly depends on P: it is the difference of two quadratures
of the same potential. So the SCF of F_coarse + D_k, D_k = D[P_k], ends at a density P_k+1 whose
target-grid gradient is hundreds to thousands of times smaller than P_k's. The constant is also the
gradient of an energy, tr(D_k P), so that what runs on the coarse grid is a variational problem and
every aid of an ordinary SCF works there. What is reached is the target grid's own solution.

References:
    A. Brandt, Math. Comp. 31, 333 (1977), section 5 (full approximation storage).
"""

import dataclasses
import logging
from collections.abc import Generator
from typing import Any

from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.scf.iteration import (
    Correction,
    Ended,
    Given,
    Request,
    State,
    Steps,
    Wanted,
    gap,
    iterate,
    scf_steps,
)
from deeph_zero.ks.scf.mixing import Mixer
from deeph_zero.ks.scf.result import SCFSettings
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.types import SpinMatrix

_log = logging.getLogger("deeph_zero")

COARSE_ERROR = 3e-4
"""Orbital gradient (Eh) to which the first coarse SCF is converged. That of its solution on the
target grid is 6e-4 to 3e-3."""

NEAR = 5e-3
"""A start whose coarse orbital gradient (Eh) is below is as good as the coarse solution."""

REDUCTION = 5e-4
"""A round's coarse tolerance as a part of the gradient it begins at: fine builds reduce it 400 to
10000 times."""

SINGLE = 2e-6
"""Coarse tolerance (Eh) down to which steps on the coarse grid are made in single precision: twenty
to forty times the part of the gradient that is noise then (5e-8 of ethanol, 1e-7 of uracil)."""

SINGLE_ENERGY = 1e-10
"""... and the least tolerance of the energy, Eh."""

SPARE = 0.2
"""The coarse tolerance as a part of what is asked for in the end."""

SPARE_AT_MOST = 0.5
"""... where the energy leaves room: what the grids leave between them comes on top, less than a
tenth of it after one fine build. Fine builds of 27 of G2's molecules (gradient 1e-5, energy 1e-9
Eh; PBE) are the same, coarse ones 6 % fewer."""

ASTRAY = 0.1
"""A round that leaves more than so much of the gradient shows that the grids disagree: the target
grid goes on alone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Point:
    """One density, built on both grids.

    Attributes:
        fine: The build on the target grid, as an iterate.
        coarse: The iterate of the coarse grid at the same density, the constant included.
        cycles: Cycles spent until here, on either grid, second-order steps included.
        newton: Second-order steps among them.
        astray: The coarse grid is of no more use: the target grid goes on alone from ``fine``.
    """

    fine: State
    coarse: State
    cycles: int = 0
    newton: int = 0
    astray: bool = False


def two_grid_steps(
    layer: KohnShamLayer,
    coarse: KohnShamLayer,
    dm: SpinMatrix,
    settings: SCFSettings,
    first_build: FockBuild | None = None,
) -> Steps:
    """The iteration on two grids.

    Args:
        layer: The molecule on the target grid.
        coarse: The molecule on the coarse grid.
        dm: Starting density matrix.
        settings: Tolerances and the iteration's knobs.
        first_build: The build at ``dm`` on the target grid, where it exists already.

    Returns:
        The generator, as :func:`~deeph_zero.ks.scf.iteration.scf_steps`.
    """
    before = layer.fock_builds, coarse.fock_builds
    mixer = Mixer(coarse, settings)
    coarse.single = _leaves_room(settings) and layer.smearing == 0
    begin = yield Wanted(layer=coarse, dm=dm, levels=layer.unrestricted, start=True)
    if first_build is None:
        now = yield from _first(layer, coarse, begin, settings, mixer)
    else:
        fine = yield Given.of(layer, dm, first_build)
        now = _Point(fine=fine, coarse=begin)
    while not (now.fine.converged or now.astray) and now.cycles < settings.max_cycle:
        now = yield from _next(layer, coarse, now, settings, mixer)
    if now.astray and not now.fine.converged:
        _log.debug("the coarse grid leads astray; going on with the target grid alone")
        left = dataclasses.replace(settings, max_cycle=max(0, settings.max_cycle - now.cycles))
        alone = yield from scf_steps(layer, now.fine, left, before[0])
        state = alone.state
        cycles = now.cycles - now.newton + alone.cycles[0], now.newton + alone.cycles[1]
    else:
        state, cycles = now.fine, (now.cycles - now.newton, now.newton)
    spent = coarse.fock_builds - before[1]
    return Ended(layer=layer, state=state, cycles=cycles, before=before[0], coarse_builds=spent)


def _first(
    layer: KohnShamLayer,
    coarse: KohnShamLayer,
    begin: State,
    settings: SCFSettings,
    mixer: Mixer,
) -> Generator[Request, Any, _Point]:
    """The first fine build: at the start where that is good, else at the coarse solution."""
    solution, cycles, newton, failed = begin, 0, 0, False
    if begin.gradient_norm > NEAR:
        tol = max(COARSE_ERROR, _goal(settings))
        solution, cycles, newton = yield from iterate(
            coarse, begin, _loosened(settings, tol, 0), mixer
        )
        failed = not solution.converged and cycles + newton < settings.max_cycle
        if failed:
            solution = begin  # the target grid begins where the user said
    fine = yield from _fine_build(layer, coarse, solution)
    # second-order steps found what DIIS on a corrected coarse grid would lose again
    astray, cycles = failed or newton > 0, cycles + newton
    return _Point(fine=fine, coarse=solution, cycles=cycles, newton=newton, astray=astray)


def _next(
    layer: KohnShamLayer,
    coarse: KohnShamLayer,
    now: _Point,
    settings: SCFSettings,
    mixer: Mixer,
) -> Generator[Request, Any, _Point]:
    """A coarse SCF with the constant of the last point, and its build.

    Where it goes astray the point with the lower energy is kept; what was spent is counted.
    """
    moved = yield Correction(layer=coarse, fine=now.fine, coarse=now.coarse, mixer=mixer)
    coarse.shift = moved.shift
    mixer.replace(moved.focks, moved.errors, moved.gram)
    energy = now.coarse.energy + moved.energy
    begin = dataclasses.replace(now.fine, energy=energy, converged=False)
    tol = max(_goal(settings), REDUCTION * now.fine.gradient_norm)
    solution, cycles, newton = yield from iterate(
        coarse, begin, _loosened(settings, tol, now.cycles), mixer
    )
    spent, newton = now.cycles + cycles + newton, now.newton + newton
    counted = dataclasses.replace(now, cycles=spent, newton=newton)
    if not solution.converged and spent < settings.max_cycle:
        return dataclasses.replace(counted, astray=True)
    fine = yield from _fine_build(layer, coarse, solution)
    astray = fine.gradient_norm > max(ASTRAY * now.fine.gradient_norm, settings.gradient_tolerance)
    if astray and fine.energy > now.fine.energy:
        return dataclasses.replace(counted, astray=True)
    expected = now.fine.energy + _change(coarse, begin, solution)
    changes = abs(fine.energy - expected), abs(fine.energy - now.fine.energy)
    close = min(*changes, _energy_left(layer, fine)) < settings.conv_tol
    converged = close and fine.gradient_norm < settings.gradient_tolerance
    return dataclasses.replace(
        counted,
        fine=dataclasses.replace(fine, converged=converged),
        coarse=solution,
        astray=astray or newton > 0,
    )


def _change(coarse: KohnShamLayer, begin: State, solution: State) -> float:
    """What the energy changed by in a coarse SCF, Eh.

    Energies in single precision know it to 1e-7 Eh only; the mean of the Fock matrices at both ends
    knows it to third order in the change of the density.
    """
    if not coarse.in_single:
        return solution.energy - begin.energy
    mean = 0.5 * (begin.fock + solution.fock)
    return float((mean * (solution.dm - begin.dm)).sum())


def _energy_left(layer: "KohnShamLayer", state: State) -> float:
    """At most what a next step would change the energy by, to second order, Eh.

    Between two fine builds the energy changes more than after the last one, by the square of a
    gradient a thousand times larger: it would ask for a build that says nothing new. A step lowers
    E by Σ_ai |F_ai|²/(ε_a - ε_i) over spin orbitals, at most |g|² over the gap.
    """
    if layer.smearing > 0:
        return float("inf")
    least = gap(layer, state)
    return state.gradient_norm**2 / least if least > 0 else float("inf")


def coarse_steps(
    coarse: KohnShamLayer, start: State, settings: SCFSettings
) -> Generator[Request, Any, tuple[State, float]]:
    """Where the SCF ends as far as one fine build tells: no further one is spent.

    Args:
        coarse: The molecule on the coarse grid.
        start: The build on the target grid.
        settings: Tolerances and the iteration's knobs.

    Returns:
        The generator; its value is the last coarse iterate, the constant included in its Fock
        matrix, and the expected change of the target grid's energy from the start to it, Eh.
    """
    mixer = Mixer(coarse, settings)
    raw = yield Wanted(layer=coarse, dm=start.dm)
    moved = yield Correction(layer=coarse, fine=start, coarse=raw, mixer=mixer)
    coarse.shift = moved.shift
    energy = raw.energy + moved.energy - start.entropy_energy
    begin = dataclasses.replace(start, energy=energy, converged=False)
    state, _, _ = yield from iterate(coarse, begin, settings, mixer)
    return state, state.energy - energy


def _fine_build(
    layer: KohnShamLayer, coarse: KohnShamLayer, solution: State
) -> Generator[Request, Any, State]:
    """The build on the target grid at a density of the coarse one."""
    return (
        yield Wanted(
            layer=layer,
            dm=solution.dm,
            entropy_energy=solution.entropy_energy,
            coarse=(coarse, solution),
            levels=True,
        )
    )


def _goal(settings: SCFSettings) -> float:
    """Coarse gradient (Eh) from which the one on the target grid will be what is asked for.

    An energy's error is the square of the gradient over the gap: a tolerance of the gradient that
    is tighter than that of the energy may nearly be used up.
    """
    asked = settings.gradient_tolerance
    by_energy = SPARE * settings.conv_tol**0.5
    return max(SPARE * asked, min(SPARE_AT_MOST * asked, by_energy))


def _leaves_room(settings: SCFSettings) -> bool:
    """Whether what is asked for leaves room for the noise of single precision."""
    return _goal(settings) >= SINGLE and settings.conv_tol >= SINGLE_ENERGY


def _loosened(settings: SCFSettings, tol: float, spent: int) -> SCFSettings:
    """Settings of a coarse SCF, whose gradient alone says when it is good enough."""
    return dataclasses.replace(
        settings,
        conv_tol=float("inf"),
        conv_tol_grad=tol,
        max_cycle=settings.max_cycle - spent,
        leave_saddles=False,
    )
