"""Self-consistent field: DIIS, with an energy-guided and a second-order step where it fails."""

import dataclasses
import logging
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.response.orbital_rotation import Rotations, is_idempotent
from deeph_zero.ks.response.stability import stability
from deeph_zero.ks.scf.mixing import UNDECIDED, Mixer, Mixture, smallest_gap
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
        n_electrons: Density integrated on the grid, where it is known.
        products: Inner products of the error with remembered ones and itself, where known.
        gap: Smallest gap between filled and empty levels of ``fock``, Eh, where it is known.
        determinant: Whether ``dm`` is a determinant's, where it is known.
    """

    energy: float
    fock: Tensor
    dm: Tensor
    gradient_norm: float
    error: Tensor | None = None
    entropy_energy: float = 0.0
    converged: bool = False
    built: FockBuild | None = None
    n_electrons: float | None = None
    products: Sequence[float] | None = None
    gap: float | None = None
    determinant: bool | None = None

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
            n_electrons=float(built.n_electrons),
        )


def gradient_norm(commutator: Tensor) -> float:
    """PySCF's ``norm(get_grad)`` from the commutator in an orthonormal basis, Eh.

    [F', P'] has elements (f_q - f_p) F_pq between orbitals, so its Frobenius norm is √2 times the
    norm of the occupied-virtual block times the occupation: 2 F_ai (closed shell), F_ai (UKS).
    """
    return float(torch.linalg.vector_norm(commutator)) / 2**0.5


def shifted(fock: SpinMatrix, dm: SpinMatrix, ovlp: Tensor, shift: float) -> SpinMatrix:
    """F with the virtual space of ``dm`` raised by ``shift``: F + shift (S - S P S / f)."""
    per_orbital = 2.0 / dm.shape[-3]
    return fock + shift * (ovlp - ovlp @ dm @ ovlp / per_orbital)


Step = tuple[SpinMatrix, float, FockBuild]
"""A density, T S of its occupations (Eh) and its build."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """A build that an iteration asks for; the answer is its :class:`State`.

    Attributes:
        layer: On which grid.
        mixture: Diagonalise this for the density; or
        dm: the density itself.
        raised: The density whose virtual orbitals a level shift raises in the mixture.
        entropy_energy: T S of ``dm``, Eh.
        coarse: The iterate at ``dm`` on the coarse grid, and its layer, where there is one.
        errors: Remembered errors whose products with the new one will be asked for.
        levels: The gap will be asked for.
        start: Whether the density is a determinant's will be asked for.
    """

    layer: KohnShamLayer
    mixture: Mixture | None = None
    dm: SpinMatrix | None = None
    raised: SpinMatrix | None = None
    entropy_energy: float = 0.0
    coarse: "tuple[KohnShamLayer, State] | None" = None
    errors: Sequence[Tensor] = ()
    levels: bool = False
    start: bool = False

    @property
    def known(self) -> FockBuild | None:
        """The build at ``dm`` on the coarse grid, nothing added, where there is one."""
        return None if self.coarse is None else self.coarse[0].unshifted(self.coarse[1].built)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """A build that exists already; answered by the :class:`State` that it is.

    Attributes:
        layer: The molecule.
        dm: The density matrix.
        fock: F[dm], Eh.
        energy: E[dm], Eh.
        built: The whole build, where it is known.
    """

    layer: KohnShamLayer
    dm: SpinMatrix
    fock: SpinMatrix
    energy: float | Tensor
    built: FockBuild | None = None

    @classmethod
    def of(cls, layer: KohnShamLayer, dm: SpinMatrix, built: FockBuild) -> "Given":
        """What an iteration begins at."""
        return cls(layer=layer, dm=dm, fock=built.fock, energy=built.energy, built=built)

    def state(self) -> State:
        """The iterate, of one molecule."""
        error = self.layer.commutator(self.fock, self.dm)
        return State(
            energy=float(self.energy),
            fock=self.fock,
            dm=self.dm,
            gradient_norm=gradient_norm(error),
            error=error,
            built=self.built,
            n_electrons=None if self.built is None else float(self.built.n_electrons),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Correction:
    """The constant by which a coarse grid's Fock matrices are to move; answered by :class:`Moved`.

    Attributes:
        layer: The coarse grid's layer.
        fine: The build on the target grid.
        coarse: That of the same density on the coarse grid.
        mixer: What is remembered of the coarse grid's builds.
    """

    layer: KohnShamLayer
    fine: State
    coarse: State
    mixer: Mixer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moved:
    """The problem with the constant.

    Attributes:
        shift: All constants so far, Eh.
        energy: What this one adds to the energy at the density, Eh.
        focks: The remembered Fock matrices with it, Eh.
        errors: Their commutators, flat.
        gram: Inner products of these.
    """

    shift: SpinMatrix
    energy: float
    focks: Sequence[SpinMatrix]
    errors: Sequence[Tensor]
    gram: list[list[float]]

    @classmethod
    def of(cls, asked: Correction) -> "Moved":
        """What is moved, for a single molecule."""
        change = asked.fine.fock - asked.coarse.fock
        old = asked.layer.shift
        focks = [fock + change for fock in asked.mixer.focks]
        pairs = zip(focks, asked.mixer.dms, strict=True)
        errors = [asked.layer.commutator(fock, dm).reshape(-1) for fock, dm in pairs]
        stacked = torch.stack(errors) if errors else change.new_zeros(0, 1)
        return cls(
            shift=change if old is None else old + change,
            energy=float((change * asked.fine.dm).sum()),
            focks=focks,
            errors=errors,
            gram=(stacked @ stacked.mT).tolist(),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SecondOrder:
    """Newton steps from a build; the answer is the last iterate and their number.

    Attributes:
        layer: The molecule.
        start: The build.
        settings: Tolerances and the iteration's knobs.
        cycles: How many of ``max_cycle`` are spent.
    """

    layer: KohnShamLayer
    start: State
    settings: SCFSettings
    cycles: int

    def take(self) -> tuple[State, int]:
        """Do them, from an exact build: they compare energies."""
        layer, start = self.layer, self.start
        if layer.in_single:
            start = State.of(layer, (start.dm, start.entropy_energy, layer.build(start.dm)))
        return _second_order(layer, start, self.settings, self.cycles)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """Where an iteration ended; :func:`finished` makes the result of it.

    Attributes:
        layer: The molecule.
        state: The last iterate.
        cycles: DIIS cycles and second-order steps.
        before: The layer's count of builds when the iteration began.
        coarse_builds: Builds spent on the coarse grid.
    """

    layer: KohnShamLayer
    state: State
    cycles: tuple[int, int]
    before: int
    coarse_builds: int = 0


Request = Wanted | Given | Correction | SecondOrder
Steps = Generator[Request, Any, Ended]
"""Generator form of an iteration: it yields requests for work on matrices, which the caller does
for several iterations at once, and expects the answers sent back. Its value is the last iterate.
Run it under ``torch.no_grad``, which a generator cannot enter for its own part alone."""


def scf_steps(layer: KohnShamLayer, start: State, settings: SCFSettings, before: int) -> Steps:
    """The iteration on one grid.

    DIIS as long as it makes progress. With ``retry``, far from convergence a rising energy turns
    one step into an ADIIS step, and where DIIS stalls, trust-region Newton steps finish.

    Args:
        layer: The molecule.
        start: The build at the starting density.
        settings: Tolerances and the iteration's knobs.
        before: The layer's count of builds when it began.

    Returns:
        The generator.
    """
    state, cycles, newton = yield from iterate(layer, start, settings, Mixer(layer, settings))
    return Ended(layer=layer, state=state, cycles=(cycles, newton), before=before)


def iterate(
    layer: KohnShamLayer, start: State, settings: SCFSettings, mixer: Mixer
) -> Generator[Request, Any, tuple[State, int, int]]:
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
        state, newton = yield SecondOrder(layer=layer, start=best, settings=settings, cycles=cycles)
    return state, cycles, newton


def finished(ended: Ended, settings: SCFSettings) -> SCFResult:
    """The result of an iteration, after it left saddle points where that was asked for.

    Args:
        ended: The last iterate.
        settings: Tolerances and the iteration's knobs.

    Returns:
        The result.
    """
    layer, state, newton = ended.layer, ended.state, ended.cycles[1]
    if settings.leave_saddles and _has_rotations(layer, settings):
        state, newton = _leave_saddles(layer, state, settings, ended.cycles)
    orbitals = layer.orbitals(state.fock, settings.degeneracy_tol)
    parts = orbitals.mo_energy, orbitals.mo_coeff, orbitals.mo_occ
    if newton:
        own = Rotations(layer, state.dm, state.fock).orbitals()
        if not torch.equal(own[2], parts[2]):
            _log.info("the SCF ended at a determinant that is not its own aufbau filling")
            parts = own
    degenerate = layer.orbitals(state.fock).degenerate
    moved = dataclasses.replace(ended, state=state, cycles=(ended.cycles[0], newton))
    return result_of(moved, parts, degenerate=degenerate)


def result_of(
    ended: Ended, orbitals: tuple[Tensor, Tensor, Tensor], *, degenerate: bool
) -> SCFResult:
    """The result, orbitals given.

    Args:
        ended: The last iterate.
        orbitals: Energies (Eh), coefficients and occupations.
        degenerate: The frontier level is degenerate.

    Returns:
        The result.
    """
    state, (diis, newton) = ended.state, ended.cycles
    return SCFResult(
        energy=state.energy + state.entropy_energy,
        entropy_energy=state.entropy_energy,
        fock=state.fock,
        dm=state.dm,
        mo_energy=orbitals[0],
        mo_coeff=orbitals[1],
        mo_occ=orbitals[2],
        converged=state.converged,
        iterations=diis + newton,
        fock_builds=ended.layer.fock_builds - ended.before,
        gradient_norm=state.gradient_norm,
        degenerate=degenerate,
        second_order_steps=newton,
        coarse_builds=ended.coarse_builds,
        n_electrons=state.n_electrons,
    )


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


def _diis_iteration(
    layer: KohnShamLayer, start: State, settings: SCFSettings, mixer: Mixer
) -> Generator[Request, Any, tuple[State, State | None, int]]:
    """(last iterate, where a second-order iteration should start if DIIS stalled, cycles)."""
    state = start
    best, mixture = _begin(layer, start, mixer)
    norms: list[float] = []
    cycle = 0
    while not state.converged and cycle < settings.max_cycle:
        cycle += 1
        raised = state.dm if settings.level_shift else None
        previous = state
        state = yield Wanted(layer=layer, mixture=mixture, raised=raised, errors=mixer.errors)
        norm = state.gradient_norm
        close = abs(state.energy - previous.energy) < settings.conv_tol
        converged = close and norm < settings.gradient_tolerance
        state = dataclasses.replace(state, converged=converged)
        assert state.error is not None
        mixer.add(state.fock, state.dm, state.error, state.products)
        norms.append(norm)
        far = cycle > TRANSIENT and norm > FAR
        rising = far and best is not None and state.energy > best.energy + ENERGY_RISE
        if best is None or state.energy < best.energy:
            best = state
        if settings.retry and _has_rotations(layer, settings) and _stalled(norms):
            return state, best, cycle
        downhill = rising and settings.retry
        mixture = mixer.next(cycle, state.fock, previous.fock, downhill=downhill)
    return state, None, cycle


def _begin(layer: KohnShamLayer, start: State, mixer: Mixer) -> tuple[State | None, Mixture]:
    """The best build so far, and what to diagonalise first."""
    if len(mixer):
        return start, mixer.extrapolated()
    best = None
    determinant = start.determinant
    if determinant is None:
        determinant = is_idempotent(layer, start.dm)
    if determinant:  # a determinant's build is as good as any later one
        error = layer.commutator(start.fock, start.dm) if start.error is None else start.error
        mixer.add(start.fock, start.dm, error, start.products)
        best = start
    undecided = layer.unrestricted and gap(layer, start) < UNDECIDED
    return best, mixer.first(start.fock, start.dm, undecided=undecided)


def gap(layer: KohnShamLayer, state: State) -> float:
    """Smallest gap between filled and empty levels, Eh; infinite without either.

    Args:
        layer: The molecule.
        state: Whose Fock matrix is asked about.

    Returns:
        What the iterate knows, or finds out now.
    """
    return smallest_gap(layer, state.fock) if state.gap is None else state.gap


def _has_rotations(layer: KohnShamLayer, settings: SCFSettings) -> bool:
    """Second-order steps turn determinants, not fractional occupations."""
    return settings.degeneracy_tol == 0 and layer.smearing == 0


def _stalled(norms: list[float]) -> bool:
    """No real progress of the gradient over the last cycles."""
    if len(norms) <= STALL_CYCLES + 2:  # the first two cycles are never representative
        return False
    return min(norms[-STALL_CYCLES:]) > STALL_FACTOR * min(norms[:-STALL_CYCLES])
