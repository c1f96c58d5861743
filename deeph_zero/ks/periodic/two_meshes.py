"""SCF on two meshes: iterate on a coarse one, correct it by the target mesh, confirm there.

What :mod:`deeph_zero.ks.scf.two_grids` does for molecules: the difference of the Fock matrices of
both meshes hardly depends on the density, and is the gradient of an energy. The target mesh, whose
AO values may have to be made again for every pass, is visited two or three times.

References:
    A. Brandt, Math. Comp. 31, 333 (1977), section 5 (full approximation storage).
"""

import dataclasses
import logging
from typing import NamedTuple

from deeph_zero.ks.periodic.iteration import Mixer, State, iterate
from deeph_zero.ks.periodic.layer import CrystalBuild, CrystalLayer
from deeph_zero.ks.periodic.result import CrystalSCFSettings
from deeph_zero.ks.periodic.types import BlochMatrix, weighted_trace

_log = logging.getLogger("deeph_zero")

COARSE_ERROR = 1e-3
"""Orbital gradient (Eh) to which the first coarse SCF is converged; that of its solution on the
target mesh is larger."""

LOST = 5e-3
"""Part of the electrons that a mesh may miss, or count twice, to be of use. Diamond, Si, LiH,
graphene, MoS2, Al at their usual cutoffs: below 2e-4 on the coarse mesh; h-BN 2e-3."""

REDUCTION = 1e-3
"""A round's coarse tolerance as a part of the gradient it begins at."""

SPARE = 0.2
"""The coarse tolerance as a part of what is asked for in the end."""

COARSE_CYCLES = 30
"""Cycles of one coarse SCF at most; five to ten are usual, MoS2 takes sixteen."""

ASTRAY = 0.1
"""A round that leaves more than so much of the gradient shows that the meshes disagree: the target
mesh goes on alone."""


ESTIMATE = 3e-4
"""Gradient at which an estimate's coarse SCF ends, as a part of the one it begins at."""


class Lowering(NamedTuple):
    """What an SCF on the coarse mesh says of a density's energy.

    Attributes:
        lowering: By how much the free energy will fall, Eh per cell; None without an answer.
        builds: Spent on the coarse mesh.
    """

    lowering: float | None
    builds: int


def coarse_lowering(layer: CrystalLayer, built: CrystalBuild, ts: float) -> Lowering:
    """Where an SCF from a density will end, from the one build made there on the target mesh.

    Args:
        layer: The crystal.
        built: The build at the density.
        ts: T S of the density's occupations, Eh.

    Returns:
        No answer without a coarse mesh that is fine enough, where the iteration does not converge
        or ends above its start.
    """
    if layer.coarse_ratio <= 1:
        return Lowering(None, 0)
    coarse = layer.coarse()
    begin = State.of(coarse, built.dm, ts)
    if not _holds(coarse, begin):
        return Lowering(None, coarse.fock_builds)
    coarse.shift = built.fock - begin.built.fock
    added = float(weighted_trace(coarse.data.weights, coarse.shift, built.dm))
    begin = dataclasses.replace(
        begin,
        built=built,
        error=layer.commutator(built.fock, built.dm),
        free_energy=begin.free_energy + added,
    )
    settings = CrystalSCFSettings(degeneracy_tol=layer.degeneracy_tol)
    settings = _loosened(settings, ESTIMATE * begin.norm, 0)
    end, _ = iterate(coarse, begin, settings, Mixer(coarse, settings))
    lowering = begin.free_energy - end.free_energy
    known = end.converged and lowering >= 0
    return Lowering(lowering if known else None, coarse.fock_builds)


class _Point(NamedTuple):
    """One density, built on both meshes.

    Attributes:
        fine: The build on the target mesh; None: there is none yet.
        coarse: The build on the coarse mesh, the constant included.
        cycles: Spent until here on either mesh.
        astray: The coarse mesh is of no more use: the target mesh goes on alone.
    """

    fine: State | None
    coarse: State
    cycles: int
    astray: bool


def on_two_meshes(
    layer: CrystalLayer,
    coarse: CrystalLayer,
    dm0: BlochMatrix | None,
    settings: CrystalSCFSettings,
) -> tuple[State, int]:
    """Iterate to the target mesh's own solution.

    Args:
        layer: The crystal on the target mesh.
        coarse: The crystal on the coarse mesh, nothing added.
        dm0: Starting density matrix; None: superposed free atoms.
        settings: Tolerances and the iteration's knobs.

    Returns:
        The last iterate on the target mesh, and cycles on both.

    Raises:
        ComputationError: If a Fock matrix is not finite.
    """
    mixer = Mixer(coarse, settings)
    if dm0 is None:
        now = _from_atoms(layer, coarse, settings, mixer)
    else:
        now = _from_density(layer, coarse, dm0, settings)
    while not (now.fine is None or now.fine.converged or now.astray):
        if now.cycles >= settings.max_cycle:
            break
        now = _next(layer, now, now.fine, settings, mixer)
    if now.fine is not None and (now.fine.converged or not now.astray):
        return now.fine, now.cycles
    _log.debug("the coarse mesh leads astray; going on with the target mesh alone")
    left = dataclasses.replace(settings, max_cycle=max(0, settings.max_cycle - now.cycles))
    state, cycles = iterate(layer, now.fine, left, Mixer(layer, settings))
    return state, now.cycles + cycles


def _holds(layer: CrystalLayer, state: State) -> bool:
    """Whether a mesh is fine enough for the functions to be of any use."""
    wanted = sum(layer.data.nelec)
    return abs(state.built.n_electrons - wanted) < LOST * wanted


def _from_density(
    layer: CrystalLayer, coarse: CrystalLayer, dm0: BlochMatrix, settings: CrystalSCFSettings
) -> _Point:
    """The first build on the target mesh where the user said."""
    begin = State.of(coarse, dm0, 0.0)
    fine = State.of(layer, dm0, 0.0)
    close = _energy_left(layer, fine) < settings.conv_tol
    converged = close and fine.norm < settings.gradient_tolerance
    fine = dataclasses.replace(fine, converged=converged)
    return _Point(fine, begin, 0, not _holds(coarse, begin))


def _from_atoms(
    layer: CrystalLayer, coarse: CrystalLayer, settings: CrystalSCFSettings, mixer: Mixer
) -> _Point:
    """The first build on the target mesh at the coarse mesh's solution.

    Where the coarse mesh is of no use the target mesh begins at the free atoms itself.
    """
    tol = max(COARSE_ERROR, SPARE * settings.gradient_tolerance)
    one = dataclasses.replace(_loosened(settings, tol, 0), max_cycle=min(1, settings.max_cycle))
    state, cycles = iterate(coarse, None, one, mixer)
    if not _holds(coarse, state):
        return _Point(None, state, 0, True)
    more = 0
    if not state.converged:
        state, more = iterate(coarse, state, _loosened(settings, tol, cycles), mixer)
    cycles += more
    if not state.converged and cycles < settings.max_cycle:
        return _Point(None, state, cycles, True)
    return _Point(State.of(layer, state.dm, state.entropy_energy), state, cycles, False)


def _next(
    layer: CrystalLayer,
    now: _Point,
    before: State,
    settings: CrystalSCFSettings,
    mixer: Mixer,
) -> _Point:
    """A coarse SCF with the constant of the last point, and its build on the target mesh."""
    coarse = mixer.layer
    change = before.built.fock - now.coarse.built.fock
    coarse.shift = change if coarse.shift is None else coarse.shift + change
    if len(mixer.diis):
        mixer.shift(change)
    added = float(weighted_trace(coarse.data.weights, change, before.dm))
    energy = now.coarse.free_energy + added
    begin = dataclasses.replace(before, free_energy=energy, converged=False)
    tol = max(SPARE * settings.gradient_tolerance, REDUCTION * before.norm)
    solution, more = iterate(coarse, begin, _loosened(settings, tol, now.cycles), mixer)
    cycles = now.cycles + more
    if not solution.converged and cycles < settings.max_cycle:
        return now._replace(cycles=cycles, astray=True)
    fine = State.of(layer, solution.dm, solution.entropy_energy)
    _log.debug("target mesh: %.10f Eh, gradient %.2e", fine.free_energy, fine.norm)
    astray = fine.norm > max(ASTRAY * before.norm, settings.gradient_tolerance)
    if astray and fine.free_energy > before.free_energy:
        return now._replace(cycles=cycles, astray=True)
    expected = before.free_energy + solution.free_energy - energy
    changes = abs(fine.free_energy - expected), abs(fine.free_energy - before.free_energy)
    close = min(*changes, _energy_left(layer, fine)) < settings.conv_tol
    converged = close and fine.norm < settings.gradient_tolerance
    fine = dataclasses.replace(fine, converged=converged)
    return _Point(fine, solution, cycles, astray)


def _energy_left(layer: CrystalLayer, state: State) -> float:
    """At most what a next step would change the energy by, to second order, Eh."""
    gap = layer.bands(state.built.fock, 0.0).filling.gap
    return state.norm**2 / gap if gap > 0 else float("inf")


def _loosened(settings: CrystalSCFSettings, tol: float, spent: int) -> CrystalSCFSettings:
    """Settings of a coarse SCF, whose gradient alone says when it is good enough."""
    return dataclasses.replace(
        settings,
        conv_tol=float("inf"),
        conv_tol_grad=tol,
        max_cycle=min(COARSE_CYCLES, settings.max_cycle - spent),
    )
