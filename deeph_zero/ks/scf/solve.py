"""Run an SCF: choose one grid or two, and do the builds its iteration asks for."""

import dataclasses
from collections.abc import Generator
from typing import Any, TypeVar

import torch

from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.response.open_shell import say_instability, spin_instability
from deeph_zero.ks.scf.iteration import (
    Correction,
    Given,
    Moved,
    Request,
    SecondOrder,
    State,
    Steps,
    Wanted,
    finished,
    scf_steps,
    shifted,
)
from deeph_zero.ks.scf.result import SCFResult, SCFSettings
from deeph_zero.ks.scf.start import filled_density, starting_density
from deeph_zero.ks.scf.two_grids import coarse_steps, two_grid_steps
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.types import SpinMatrix

T = TypeVar("T")

PAYS = 3.7
"""Points of the target grid for one of the coarse grid from which an SCF on two grids is faster.
Level 1 has three (0.8 to 1.3 times as fast, PBE and r2SCAN), level 2 four (1.1 to 1.6), level 3 six
(1.2 to 1.9). Error estimates take a coarse grid wherever there is one."""


def steps(
    layer: KohnShamLayer,
    dm: SpinMatrix,
    settings: SCFSettings,
    first_build: FockBuild | None = None,
) -> Steps:
    """The iteration that the settings ask for, on two grids where there are two.

    Args:
        layer: The molecule.
        dm: Starting density matrix.
        settings: Tolerances and the iteration's knobs.
        first_build: The build at ``dm`` where it exists already.

    Returns:
        A generator that asks for its work, see :data:`~deeph_zero.ks.scf.iteration.Steps`.
    """
    coarse = layer.coarse if settings.two_grids else None
    if coarse is None or layer.coarse_ratio < PAYS:
        return _on_one_grid(layer, dm, settings, first_build)
    return two_grid_steps(layer, coarse, dm, settings, first_build)


def _on_one_grid(
    layer: KohnShamLayer,
    dm: SpinMatrix,
    settings: SCFSettings,
    first_build: FockBuild | None,
) -> Steps:
    before = layer.fock_builds
    if first_build is None:
        start = yield Wanted(layer=layer, dm=dm, levels=layer.unrestricted, start=True)
    else:
        start = yield Given.of(layer, dm, first_build)
    return (yield from scf_steps(layer, start, settings, before))


def solve_scf(
    layer: KohnShamLayer,
    dm0: SpinMatrix | None,
    settings: SCFSettings,
    first_build: FockBuild | None = None,
) -> SCFResult:
    """Iterate to self-consistency, and look whether a lower open shell hides (``settings.hint``).

    Args:
        layer: The molecule.
        dm0: Starting density matrix; None takes ``settings.init_guess``.
        settings: Tolerances and the iteration's knobs.
        first_build: The build at ``dm0`` where it exists already.

    Returns:
        The last iterate; non-convergence is a result.
    """
    dm = starting_density(layer, settings.init_guess) if dm0 is None else dm0
    result = finished(_run(steps(layer, dm, settings, first_build), settings), settings)
    if not (settings.hint and result.converged):
        return result
    before = layer.fock_builds
    say_instability(spin_instability(layer, result.dm, result.fock))
    more = layer.fock_builds - before
    return dataclasses.replace(result, fock_builds=result.fock_builds + more)


ESTIMATE = 3e-4
"""Gradient at which an estimate's coarse SCF ends, as a part of the one it begins at: about what
the difference of the grids leaves in the end."""

ESTIMATE_FLOOR = 1e-7
"""... but not below this, Eh."""


@dataclasses.dataclass(frozen=True)
class Solution:
    """Where a coarse SCF ended.

    Attributes:
        dm: The density matrix.
        fock: F there, the difference of the grids included, Eh.
        change: The expected change of energy, Eh.
    """

    dm: SpinMatrix
    fock: SpinMatrix
    change: float


def coarse_solution(layer: KohnShamLayer, dm: SpinMatrix, fock: SpinMatrix) -> Solution | None:
    """Where an SCF from a density will end, from the one fine build that was made there.

    Args:
        layer: The molecule.
        dm: The density matrix.
        fock: F[dm], Eh.

    Returns:
        The last coarse iterate; None without a coarse grid, with smearing (E[P] alone is not
        stationary) or where the iteration does not converge.
    """
    coarse = layer.coarse
    if coarse is None or layer.smearing > 0:
        return None
    settings = SCFSettings(degeneracy_tol=layer.degeneracy_tol)
    return _run(estimate_steps(layer, coarse, dm, fock), settings)


def estimate_steps(
    layer: KohnShamLayer, coarse: KohnShamLayer, dm: SpinMatrix, fock: SpinMatrix
) -> Generator[Request, Any, Solution | None]:
    """:func:`coarse_solution` as steps.

    Args:
        layer: The molecule, without smearing.
        coarse: The molecule on the coarse grid.
        dm: The density matrix.
        fock: F[dm], Eh.

    Returns:
        The generator; its value is that of :func:`coarse_solution`.
    """
    start = yield Given(layer=layer, dm=dm, fock=fock, energy=0.0)
    settings = SCFSettings(
        conv_tol=float("inf"),
        conv_tol_grad=max(ESTIMATE_FLOOR, ESTIMATE * start.gradient_norm),
        max_cycle=MAX_ESTIMATE,
        degeneracy_tol=layer.degeneracy_tol,
    )
    state, change = yield from coarse_steps(coarse, start, settings)
    return Solution(state.dm, state.fock, change) if state.converged else None


MAX_ESTIMATE = 30
"""Cycles of an estimate at most; five are usual."""


def _run(run: Generator[Request, Any, T], settings: SCFSettings) -> T:
    """Do everything that an iteration asks for."""
    with torch.no_grad():
        try:
            asked = next(run)
            while True:
                asked = run.send(answer(asked, settings))
        except StopIteration as end:
            return end.value


def answer(asked: Request, settings: SCFSettings) -> State | Moved | tuple[State, int]:
    """Do what an iteration asks for, of one molecule.

    Args:
        asked: A build, made or not, a constant or second-order steps.
        settings: Its settings.

    Returns:
        What the kind of request says.
    """
    if isinstance(asked, Correction):
        return Moved.of(asked)
    if isinstance(asked, Given):
        return asked.state()
    if isinstance(asked, SecondOrder):
        return asked.take()
    layer, dm, ts = asked.layer, asked.dm, asked.entropy_energy
    if dm is None:
        fock = to_diagonalise(asked, settings)
        dm, ts = filled_density(layer, fock, settings.degeneracy_tol)
    return State.of(layer, (dm, ts, layer.step_build(dm, asked.known)))


def to_diagonalise(asked: Wanted, settings: SCFSettings) -> SpinMatrix:
    """The matrix whose density is to be built.

    Args:
        asked: A build at a mixture.
        settings: The iteration's settings.

    Returns:
        Eh.
    """
    assert asked.mixture is not None
    fock = asked.mixture.matrix(asked.layer, settings.degeneracy_tol)
    if asked.raised is None:
        return fock
    return shifted(fock, asked.raised, asked.layer.data.ovlp, settings.level_shift)
