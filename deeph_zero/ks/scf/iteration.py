"""Self-consistent field: DIIS, with an energy-guided and a second-order step where it fails."""

import dataclasses
import logging
from collections.abc import Generator

import torch
from torch import Tensor

from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.response.orbital_rotation import Rotations, is_idempotent
from deeph_zero.ks.response.stability import stability
from deeph_zero.ks.scf.mixing import Mixer
from deeph_zero.ks.scf.newton import minimise
from deeph_zero.ks.scf.result import SCFResult, SCFSettings
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.types import SpinMatrix

_log = logging.getLogger("deeph_zero")

FAR = 0.1
"""Gradient norm (Eh) above which the iteration counts as far from convergence."""

ENERGY_RISE = 1e-3
TRANSIENT = 3
"""Far from convergence, an energy this much (Eh) above the lowest one calls for ADIIS, but not in
the first cycles: from superposed atoms the second one rises and DIIS makes good use of it."""

STALL_CYCLES = 10
STALL_FACTOR = 0.3
"""DIIS stalls when so many cycles have not brought the gradient below this factor of its best."""

MAX_SADDLES = 3
"""Saddle points left one after another at most."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """One build on the way.

    Attributes:
        energy: Free energy, what the iteration minimises, Eh.
        fock: F[dm], Eh.
        dm: Density matrix.
        gradient_norm: Norm of the orbital gradient, Eh.
        error: The commutator, where it is known.
        entropy_energy: T S of the occupations, Eh.
        converged: Both tolerances were met.
        built: The build itself, where it is known.
    """

    energy: float
    fock: Tensor
    dm: Tensor
    gradient_norm: float
    error: Tensor | None = None
    entropy_energy: float = 0.0
    converged: bool = False
    built: FockBuild | None = None

    @classmethod
    def of(cls, layer: KohnShamLayer, step: "Step") -> "State":
        """What a build says; not yet called converged."""
        dm, ts, built = step
        error = layer.commutator(built.fock, dm)
        return cls(
            energy=float(built.energy) - ts,
            fock=built.fock,
            dm=dm,
            gradient_norm=gradient_norm(error),
            error=error,
            entropy_energy=ts,
            built=built,
        )


def gradient_norm(commutator: Tensor) -> float:
    """PySCF's ``norm(get_grad)`` from the commutator in an orthonormal basis, Eh.

    [F', P'] has elements (f_q - f_p) F_pq between orbitals, so its Frobenius norm is √2 times the
    norm of the occupied-virtual block times the occupation: 2 F_ai (closed shell), F_ai (UKS).
    """
    return float(torch.linalg.vector_norm(commutator)) / 2**0.5


def shifted(fock: SpinMatrix, dm: SpinMatrix, ovlp: Tensor, shift: float) -> SpinMatrix:
    """F with the virtual space of ``dm`` raised by ``shift``: F + shift (S - S P S / f)."""
    if shift == 0:
        return fock
    per_orbital = 2.0 / len(dm)
    return fock + shift * (ovlp - ovlp @ dm @ ovlp / per_orbital)


Step = tuple[SpinMatrix, float, FockBuild]
"""A density, T S of its occupations (Eh) and its build."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """A build that an iteration asks for.

    Attributes:
        layer: On which grid.
        fock: Diagonalise this matrix for the density; or
        dm: the density itself.
        entropy_energy: T S of ``dm``, Eh.
        coarse: The build at ``dm`` on the coarse grid, nothing added, where there is one.
    """

    layer: KohnShamLayer
    fock: SpinMatrix | None = None
    dm: SpinMatrix | None = None
    entropy_energy: float = 0.0
    coarse: FockBuild | None = None


Steps = Generator[Wanted, Step, SCFResult]
"""An iteration without its cycles' work, which whoever runs it does, for several at once: it asks
for builds and wants them sent back; its value at the end is the last iterate. To be run under
``torch.no_grad``: a generator cannot keep that to itself."""


def scf_steps(
    layer: KohnShamLayer, dm: SpinMatrix, settings: SCFSettings, built: FockBuild, before: int
) -> Steps:
    """The iteration on one grid.

    DIIS as long as it makes progress. With ``retry``, far from convergence a rising energy turns
    one step into an ADIIS step, and where DIIS stalls, trust-region Newton steps finish.

    Args:
        layer: The molecule.
        dm: Starting density matrix.
        settings: Tolerances and the iteration's knobs.
        built: The build at ``dm``.
        before: The layer's count of builds when it began.

    Returns:
        The generator.
    """
    start = State.of(layer, (dm, 0.0, built))
    state, cycles, newton = yield from iterate(layer, start, settings, Mixer(layer, settings))
    return finished(layer, state, settings, cycles=(cycles, newton), before=before)


def iterate(
    layer: KohnShamLayer, start: State, settings: SCFSettings, mixer: Mixer
) -> Generator[Wanted, Step, tuple[State, int, int]]:
    """DIIS, and second-order steps where it stalls.

    Args:
        layer: The molecule.
        start: A build to begin at.
        settings: Tolerances and the iteration's knobs.
        mixer: Empty, or it remembers earlier builds, the start among them.

    Returns:
        The generator; its value is the last iterate, cycles of DIIS and second-order steps.
    """
    state, best, cycles = yield from _diis_iteration(layer, start, settings, mixer)
    newton = 0
    if not state.converged and best is not None and cycles < settings.max_cycle:
        _log.debug("DIIS stalls after %d cycles; going on with second-order steps", cycles)
        state, newton = _second_order(layer, best, settings, cycles)
    return state, cycles, newton


def finished(
    layer: KohnShamLayer,
    state: State,
    settings: SCFSettings,
    *,
    cycles: tuple[int, int],
    before: int,
) -> SCFResult:
    """The result of an iteration, after it left saddle points where that was asked for.

    Args:
        layer: The molecule.
        state: The last iterate.
        settings: Tolerances and the iteration's knobs.
        cycles: Numbers of DIIS cycles and of second-order steps.
        before: The layer's count of builds when the iteration began.

    Returns:
        The result.
    """
    newton = cycles[1]
    if settings.leave_saddles and _has_rotations(layer, settings):
        state, newton = _leave_saddles(layer, state, settings, cycles)
    builds = layer.fock_builds - before
    return _result(layer, state, settings, cycles=(cycles[0], newton), builds=builds)


def _second_order(
    layer: KohnShamLayer, start: State, settings: SCFSettings, cycles: int
) -> tuple[State, int]:
    """Newton steps from a build, within what is left of ``max_cycle``."""
    found = minimise(
        layer,
        start.dm,
        start.fock,
        start.energy,
        conv_tol=settings.conv_tol,
        gradient_tolerance=settings.gradient_tolerance,
        max_cycle=settings.max_cycle - cycles,
    )
    state = State(
        energy=found.energy,
        fock=found.fock,
        dm=found.dm,
        gradient_norm=found.gradient_norm,
        converged=found.converged,
    )
    return state, found.cycles


def _leave_saddles(
    layer: KohnShamLayer, state: State, settings: SCFSettings, cycles: tuple[int, int]
) -> tuple[State, int]:
    """Down from every saddle point found, while cycles are left."""
    diis, newton = cycles
    for _ in range(MAX_SADDLES):
        if not state.converged or diis + newton + 1 >= settings.max_cycle:
            break
        checked = stability(layer, state.dm, state.fock, external=False)
        if checked.dm_internal is None:
            break
        _log.info("saddle point with curvature %.1e Eh: going down from it", checked.internal)
        built = layer.build(checked.dm_internal)
        start = State(
            energy=float(built.energy),
            fock=built.fock,
            dm=checked.dm_internal,
            gradient_norm=float("inf"),
        )
        lower, more = _second_order(layer, start, settings, diis + newton + 1)
        newton += more + 1
        if lower.energy > state.energy:
            break
        state = lower
    return state, newton


def _result(
    layer: KohnShamLayer,
    state: State,
    settings: SCFSettings,
    *,
    cycles: tuple[int, int],
    builds: int,
) -> SCFResult:
    diis, newton = cycles
    orbitals = layer.orbitals(state.fock, settings.degeneracy_tol)
    parts = orbitals.mo_energy, orbitals.mo_coeff, orbitals.mo_occ
    if newton:
        own = Rotations(layer, state.dm, state.fock).orbitals()
        if not torch.equal(own[2], parts[2]):
            _log.info("the SCF ended at a determinant that is not its own aufbau filling")
            parts = own
    return SCFResult(
        energy=state.energy + state.entropy_energy,
        entropy_energy=state.entropy_energy,
        fock=state.fock,
        dm=state.dm,
        mo_energy=parts[0],
        mo_coeff=parts[1],
        mo_occ=parts[2],
        converged=state.converged,
        iterations=diis + newton,
        fock_builds=builds,
        gradient_norm=state.gradient_norm,
        degenerate=layer.orbitals(state.fock).degenerate,
        second_order_steps=newton,
        n_electrons=None if state.built is None else float(state.built.n_electrons),
    )


def _diis_iteration(
    layer: KohnShamLayer, start: State, settings: SCFSettings, mixer: Mixer
) -> Generator[Wanted, Step, tuple[State, State | None, int]]:
    """(last iterate, where a second-order iteration should start if DIIS stalled, cycles)."""
    state = start
    best: State | None = None
    if len(mixer.diis):
        best, fock = state, mixer.go_on()
    else:
        if is_idempotent(layer, state.dm):  # a determinant's build is as good as any later one
            mixer.add(state.fock, state.dm, state.error)
            best = state
        fock = mixer.first_fock(state.fock, state.dm)
    norms: list[float] = []
    cycle = 0
    while not state.converged and cycle < settings.max_cycle:
        cycle += 1
        target = shifted(fock, state.dm, layer.data.ovlp, settings.level_shift)
        previous = state
        state = State.of(layer, (yield Wanted(layer=layer, fock=target)))
        norm = state.gradient_norm
        close = abs(state.energy - previous.energy) < settings.conv_tol
        converged = close and norm < settings.gradient_tolerance
        state = dataclasses.replace(state, converged=converged)
        mixer.add(state.fock, state.dm, state.error)
        norms.append(norm)
        far = cycle > TRANSIENT and norm > FAR
        rising = far and best is not None and state.energy > best.energy + ENERGY_RISE
        if best is None or state.energy < best.energy:
            best = state
        if settings.retry and _has_rotations(layer, settings) and _stalled(norms):
            return state, best, cycle
        downhill = rising and settings.retry
        fock = mixer.next_fock(cycle, state.fock, previous.fock, downhill=downhill)
    return state, None, cycle


def _has_rotations(layer: KohnShamLayer, settings: SCFSettings) -> bool:
    """Second-order steps turn determinants, not fractional occupations."""
    return settings.degeneracy_tol == 0 and layer.smearing == 0


def _stalled(norms: list[float]) -> bool:
    """No real progress of the gradient over the last cycles."""
    if len(norms) <= STALL_CYCLES + 2:  # the first two cycles are never representative
        return False
    return min(norms[-STALL_CYCLES:]) > STALL_FACTOR * min(norms[:-STALL_CYCLES])
