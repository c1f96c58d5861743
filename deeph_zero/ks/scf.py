"""Self-consistent field: DIIS, with an energy-guided and a second-order step where it fails."""

import dataclasses
import logging
from collections.abc import Generator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deeph_zero.ks.mixing import Mixer
from deeph_zero.ks.newton import minimise
from deeph_zero.ks.rotation import Rotations, is_idempotent
from deeph_zero.ks.stability import stability
from deeph_zero.ks.start import filled_density, starting_density
from deeph_zero.types import AOMatrix, OrbitalEnergies
from deeph_zero.types import Orbitals as OrbitalMatrix

if TYPE_CHECKING:
    from deeph_zero.ks.build import FockBuild
    from deeph_zero.ks.layer import KohnShamLayer

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
class SCFSettings:
    """How to iterate; names and defaults are PySCF's where it has them.

    Attributes:
        conv_tol: Energy change between iterations, Eh.
        conv_tol_grad: Norm of the orbital gradient (PySCF's ``get_grad``), Eh; None means
            sqrt(conv_tol).
        max_cycle: Largest number of iterations (Fock builds after the first), those of the
            second-order fallback included; its response builds are not iterations.
        diis_space: Number of builds DIIS remembers.
        damp: Fraction of the previous Fock matrix mixed in before DIIS starts.
        diis_start: Iteration at which DIIS starts.
        level_shift: Raises the virtual orbitals by this much (Eh) while iterating.
        dielectric: Move every extrapolated matrix on by the Coulomb response, see
            :mod:`.dielectric`, as long as it helps: fewer builds. False iterates as PySCF does.
        degeneracy_tol: Frontier levels closer than this are filled evenly; 0, PySCF's behaviour,
            keeps integer occupations.
        init_guess: Where to start without a density: "minao" (superposed atoms) or "core"
            (orbitals of the core Hamiltonian).
        retry: Where DIIS oscillates or stalls, help it: ADIIS far from convergence, then
            second-order steps.
        leave_saddles: Check the internal stability of the converged density and go down from a
            saddle point (some 20 response builds per check).
        hint: Log a line where an unrestricted solution lies below a converged closed shell, see
            :mod:`.open_shell`; costs response builds only where that is likely.
    """

    conv_tol: float = 1e-9
    conv_tol_grad: float | None = None
    max_cycle: int = 100
    diis_space: int = 8
    damp: float = 0.0
    diis_start: int = 1
    level_shift: float = 0.0
    dielectric: bool = True
    degeneracy_tol: float = 0.0
    init_guess: str = "minao"
    retry: bool = True
    leave_saddles: bool = False
    hint: bool = True

    @property
    def gradient_tolerance(self) -> float:
        """The gradient norm asked for, Eh."""
        return self.conv_tol**0.5 if self.conv_tol_grad is None else self.conv_tol_grad


@dataclasses.dataclass(frozen=True, kw_only=True)
class SCFResult:
    """The last SCF iterate.

    Attributes:
        energy: Total energy at ``dm``, Eh.
        fock: F[dm], Eh.
        dm: Density matrix.
        mo_energy: Eigenvalues of ``fock``, Eh.
        mo_coeff: Its orbitals.
        mo_occ: Their occupations; aufbau, unless the second-order fallback found a determinant
            that is lower in energy than its own aufbau one.
        converged: Both tolerances were met.
        iterations: SCF cycles, counted as PySCF does (the build at the start is not one).
        fock_builds: Fock builds spent, responses and the first one included (not one that was
            given).
        gradient_norm: Norm of the orbital gradient at the end, Eh.
        degenerate: The frontier level of ``fock`` is degenerate.
        second_order_steps: How many of the iterations were second-order steps.
        entropy_energy: T S, Eh, with smearing: the iteration minimises ``energy`` minus this.
    """

    energy: float
    fock: AOMatrix
    dm: AOMatrix
    mo_energy: OrbitalEnergies
    mo_coeff: OrbitalMatrix
    mo_occ: OrbitalEnergies
    converged: bool
    iterations: int
    fock_builds: int
    gradient_norm: float
    degenerate: bool
    second_order_steps: int = 0
    entropy_energy: float = 0.0

    @property
    def free_energy(self) -> float:
        """E - T S, Eh; the energy itself without smearing."""
        return self.energy - self.entropy_energy


@dataclasses.dataclass(frozen=True, kw_only=True)
class _State:
    """One build on the way; ``energy`` is the free energy, what the iteration minimises."""

    energy: float
    fock: Tensor
    dm: Tensor
    gradient_norm: float
    entropy_energy: float = 0.0
    converged: bool = False


def gradient_norm(commutator: Tensor) -> float:
    """PySCF's ``norm(get_grad)`` from the commutator in an orthonormal basis, Eh.

    [F', P'] has elements (f_q - f_p) F_pq between orbitals, so its Frobenius norm is √2 times the
    norm of the occupied-virtual block times the occupation: 2 F_ai (closed shell), F_ai (UKS).
    """
    return float(torch.linalg.vector_norm(commutator)) / 2**0.5


def shifted(fock: AOMatrix, dm: AOMatrix, ovlp: Tensor, shift: float) -> AOMatrix:
    """F with the virtual space of ``dm`` raised by ``shift``: F + shift (S - S P S / f)."""
    if shift == 0:
        return fock
    per_orbital = 2.0 if dm.ndim == 2 else 1.0
    return fock + shift * (ovlp - ovlp @ dm @ ovlp / per_orbital)


def solve_scf(
    layer: "KohnShamLayer",
    dm0: AOMatrix | None,
    settings: SCFSettings,
    first_build: "FockBuild | None" = None,
) -> SCFResult:
    """Iterate to self-consistency.

    DIIS as long as it makes progress. With ``retry``, far from convergence a rising energy turns
    one step into an ADIIS step, and where DIIS stalls, trust-region Newton steps finish.

    Args:
        layer: The molecule.
        dm0: Starting density matrix; None takes ``settings.init_guess``.
        settings: Tolerances and the iteration's knobs.
        first_build: The build at ``dm0`` where it exists already.

    Returns:
        The last iterate; non-convergence is a result.
    """
    before = layer.fock_builds
    dm = starting_density(layer, settings.init_guess) if dm0 is None else dm0
    with torch.no_grad():
        built = layer.build(dm) if first_build is None else first_build
        steps = scf_steps(layer, dm, settings, built, before)
        try:
            target = next(steps)
            while True:
                density, ts = filled_density(layer, target, settings.degeneracy_tol)
                target = steps.send((density, ts, layer.build(density)))
        except StopIteration as end:
            return end.value


Step = tuple[AOMatrix, float, "FockBuild"]
"""A density, T S of its occupations (Eh) and its build."""


def scf_steps(
    layer: "KohnShamLayer", dm: AOMatrix, settings: SCFSettings, built: "FockBuild", before: int
) -> Generator[AOMatrix, Step, SCFResult]:
    """The iteration without its cycles' work, which whoever runs it does, for several at once.

    It gives the next matrix to diagonalise and wants its density, T S and Fock build sent back.
    To be run under ``torch.no_grad``: a generator cannot keep that to itself.

    Args:
        layer: The molecule.
        dm: Starting density matrix.
        settings: Tolerances and the iteration's knobs.
        built: The build at ``dm``.
        before: The layer's count of builds when it began.

    Returns:
        The generator; its value at the end is the last iterate.
    """
    state, best, cycles = yield from _diis_iteration(layer, dm, settings, built)
    newton = 0
    if not state.converged and best is not None and cycles < settings.max_cycle:
        _log.debug("DIIS stalls after %d cycles; going on with second-order steps", cycles)
        state, newton = _second_order(layer, best, settings, cycles)
    if settings.leave_saddles and _has_rotations(layer, settings):
        state, newton = _leave_saddles(layer, state, settings, (cycles, newton))
    builds = layer.fock_builds - before
    return _result(layer, state, settings, cycles=(cycles, newton), builds=builds)


def _second_order(
    layer: "KohnShamLayer", start: _State, settings: SCFSettings, cycles: int
) -> tuple[_State, int]:
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
    state = _State(
        energy=found.energy,
        fock=found.fock,
        dm=found.dm,
        gradient_norm=found.gradient_norm,
        converged=found.converged,
    )
    return state, found.cycles


def _leave_saddles(
    layer: "KohnShamLayer", state: _State, settings: SCFSettings, cycles: tuple[int, int]
) -> tuple[_State, int]:
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
        start = _State(
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
    layer: "KohnShamLayer",
    state: _State,
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
    )


def _diis_iteration(
    layer: "KohnShamLayer",
    dm0: Tensor,
    settings: SCFSettings,
    built: "FockBuild",
) -> Generator[Tensor, Step, tuple[_State, _State | None, int]]:
    """(last iterate, where a second-order iteration should start if DIIS stalled, cycles)."""
    error = layer.commutator(built.fock, dm0)
    state = _State(
        energy=float(built.energy), fock=built.fock, dm=dm0, gradient_norm=gradient_norm(error)
    )
    mixer = Mixer(layer, settings)
    best: _State | None = None
    if is_idempotent(layer, dm0):  # a determinant's build is as good as any later one
        mixer.add(state.fock, dm0, error)
        best = state
    fock, norms = mixer.first_fock(state.fock, dm0), []
    cycle = 0
    while not state.converged and cycle < settings.max_cycle:
        cycle += 1
        target = shifted(fock, state.dm, layer.data.ovlp, settings.level_shift)
        dm, ts, built = yield target
        energy = float(built.energy) - ts
        error = layer.commutator(built.fock, dm)
        norm = gradient_norm(error)
        close = abs(energy - state.energy) < settings.conv_tol
        previous = state.fock
        state = _State(
            energy=energy,
            fock=built.fock,
            dm=dm,
            gradient_norm=norm,
            entropy_energy=ts,
            converged=close and norm < settings.gradient_tolerance,
        )
        mixer.add(state.fock, dm, error)
        norms.append(norm)
        far = cycle > TRANSIENT and norm > FAR
        rising = far and best is not None and energy > best.energy + ENERGY_RISE
        if best is None or energy < best.energy:
            best = state
        if settings.retry and _has_rotations(layer, settings) and _stalled(norms):
            return state, best, cycle
        fock = mixer.next_fock(cycle, state.fock, previous, downhill=rising and settings.retry)
    return state, None, cycle


def _has_rotations(layer: "KohnShamLayer", settings: SCFSettings) -> bool:
    """Second-order steps turn determinants, not fractional occupations."""
    return settings.degeneracy_tol == 0 and layer.smearing == 0


def _stalled(norms: list[float]) -> bool:
    """No real progress of the gradient over the last cycles."""
    if len(norms) <= STALL_CYCLES + 2:  # the first two cycles are never representative
        return False
    return min(norms[-STALL_CYCLES:]) > STALL_FACTOR * min(norms[:-STALL_CYCLES])
