"""Self-consistent field of a crystal: DIIS over all k-points at once, with the dielectric step."""

import dataclasses
import logging

import torch
from torch import Tensor

from deeph_zero.ks.periodic.dielectric import dielectric_step
from deeph_zero.ks.periodic.layer import Bands, CrystalBuild, CrystalLayer
from deeph_zero.ks.periodic.types import BandEnergies, BlochMatrix
from deeph_zero.ks.response.dielectric import stops_helping
from deeph_zero.ks.scf.adiis import adiis_coefficients
from deeph_zero.ks.scf.diis import DIIS

_log = logging.getLogger("deeph_zero")

FAR = 0.1
ENERGY_RISE = 1e-3
TRANSIENT = 3
"""After so many cycles, a gradient norm above ``FAR`` (Eh) together with an energy that rose by
``ENERGY_RISE`` (Eh) calls for ADIIS in place of DIIS."""

NO_GAP = 1e-4
"""Eh; without smearing a smaller gap is said to be none."""

COARSE = 1e-4
"""Eh per cell; a larger ``grid_error`` is said."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalSCFSettings:
    """How to iterate.

    Attributes:
        conv_tol: Change of the (free) energy between iterations, Eh per cell.
        conv_tol_grad: Norm of the orbital gradient, √Σ_k w_k |g_k|², Eh; None: sqrt(conv_tol).
        max_cycle: Iterations at most, one Fock build each.
        diis_space: Builds that DIIS remembers.
        dielectric: Move every extrapolated matrix on by the Coulomb response, as long as it helps.
        degeneracy_tol: Frontier levels closer than this (Eh) are filled evenly; 0 fills them one
            after the other.
    """

    conv_tol: float = 1e-9
    conv_tol_grad: float | None = None
    max_cycle: int = 100
    diis_space: int = 8
    dielectric: bool = True
    degeneracy_tol: float = 0.0

    @property
    def gradient_tolerance(self) -> float:
        """The gradient norm asked for, Eh."""
        return self.conv_tol**0.5 if self.conv_tol_grad is None else self.conv_tol_grad


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalSCFResult:
    """The last SCF iterate.

    Attributes:
        energy: Total energy at ``dm``, Eh per cell.
        entropy_energy: T S with smearing; ``free_energy`` is what the iteration minimises.
        parts: Parts of the energy by name, Eh per cell.
        fock: F[dm], Eh.
        dm: Density matrix.
        mo_energy: Eigenvalues of ``fock``, Eh; +inf for combinations that were left out.
        mo_coeff: Its orbitals.
        mo_occ: Their occupations.
        fermi: Fermi level of each spin, Eh.
        gap: Lowest empty minus highest filled level, Eh; 0 with smearing.
        converged: Both tolerances were met.
        iterations: SCF cycles.
        fock_builds: Fock builds.
        gradient_norm: Norm of the orbital gradient, Eh.
        n_electrons: Density integrated on the grid, per cell.
        grid_error: E_xc by gradients of the density minus that by gradients of AOs, Eh per cell: a
            test of the grid's cutoff.
        build: The last build.
    """

    energy: float
    entropy_energy: float
    parts: dict[str, float]
    fock: BlochMatrix
    dm: BlochMatrix
    mo_energy: BandEnergies
    mo_coeff: Tensor
    mo_occ: BandEnergies
    fermi: tuple[float, ...]
    gap: float
    converged: bool
    iterations: int
    fock_builds: int
    gradient_norm: float
    n_electrons: float
    grid_error: float
    build: CrystalBuild

    @property
    def free_energy(self) -> float:
        """E - T S, Eh per cell; the energy itself without smearing."""
        return self.energy - self.entropy_energy


@dataclasses.dataclass(frozen=True, kw_only=True)
class _State:
    """One build on the way."""

    built: CrystalBuild
    dm: BlochMatrix
    free_energy: float
    entropy_energy: float
    error: Tensor

    @property
    def norm(self) -> float:
        """Of the orbital gradient, Eh: a commutator has each of its elements twice."""
        return float(self.error.norm()) / 2**0.5


class _Mixer:
    """Chooses the next Fock matrix from the builds so far."""

    def __init__(self, layer: CrystalLayer, settings: CrystalSCFSettings) -> None:
        self.layer = layer
        self.tol = settings.degeneracy_tol
        self.diis = DIIS(settings.diis_space)
        self.norms: list[float] = []
        self.coulomb = layer.data.step_coulomb() if settings.dielectric else None

    def add(self, state: _State) -> None:
        self.diis.add(torch.stack([state.built.fock, state.dm]), state.error)
        self.norms.append(state.norm)

    def moved(self, fock: BlochMatrix, dm: BlochMatrix | None) -> BlochMatrix:
        if self.coulomb is None:
            return fock
        return fock + dielectric_step(self.layer, self.coulomb, fock, dm, self.tol)

    def next(self, *, downhill: bool) -> BlochMatrix:
        if downhill and len(self.diis) > 1:
            root = self.layer.column_weights.sqrt()
            pairs = [(_real(f * root), _real(p * root)) for f, p in self.diis.focks]
            c = adiis_coefficients([p for _, p in pairs], [f for f, _ in pairs])
            return _mean(c, [pair[0] for pair in self.diis.focks])
        if stops_helping(self.norms):
            self.coulomb = None  # once it did not help it is left alone
        c = self.diis.coefficients() if len(self.diis) > 1 else torch.ones(1, dtype=torch.float64)
        fock, dm = _mean(c, self.diis.focks).unbind(0)
        return self.moved(fock, dm)


def _real(matrix: Tensor) -> Tensor:
    return torch.view_as_real(matrix) if matrix.is_complex() else matrix


def _mean(coefficients: Tensor, matrices: list[Tensor]) -> Tensor:
    return torch.stack([c * m for c, m in zip(coefficients, matrices, strict=True)]).sum(0)


@torch.no_grad()
def crystal_scf(
    layer: CrystalLayer, dm0: BlochMatrix | None, settings: CrystalSCFSettings
) -> CrystalSCFResult:
    """Iterate to self-consistency.

    Args:
        layer: The crystal.
        dm0: Starting density matrix; None: superposed free atoms.
        settings: Tolerances and the iteration's knobs.

    Returns:
        The last iterate; non-convergence is not an exception.

    Raises:
        ComputationError: If a Fock matrix is not finite.
    """
    before = layer.fock_builds
    mixer = _Mixer(layer, settings)
    previous: _State | None = None
    if dm0 is None:
        target = mixer.moved(layer.starting_fock(), None)
    else:
        previous = _state(layer, dm0, 0.0)
        mixer.add(previous)
        target = mixer.next(downhill=False)
    lowest = float("inf")
    converged, cycle = False, 0
    state = previous
    while not converged and cycle < settings.max_cycle:
        cycle += 1
        dm, ts = _density(layer, target, settings.degeneracy_tol)
        previous, state = state, _state(layer, dm, ts)
        change = float("inf") if previous is None else state.free_energy - previous.free_energy
        converged = abs(change) < settings.conv_tol and state.norm < settings.gradient_tolerance
        rising = state.free_energy > lowest + ENERGY_RISE
        lowest = min(lowest, state.free_energy)
        mixer.add(state)
        _log.debug("cycle %d: %.10f Eh, gradient %.2e", cycle, state.free_energy, state.norm)
        if not converged:
            far = cycle > TRANSIENT and state.norm > FAR
            target = mixer.next(downhill=far and rising)
    if state is None:
        state = _state(layer, *_density(layer, target, settings.degeneracy_tol))
    result = _result(layer, state, settings, (converged, cycle, layer.fock_builds - before))
    _say(layer, result)
    return result


def _density(layer: CrystalLayer, fock: BlochMatrix, tol: float) -> tuple[BlochMatrix, float]:
    """P and T S."""
    bands = layer.bands(fock, tol)
    return _occupied(bands), bands.filling.entropy_energy


def _occupied(bands: Bands) -> BlochMatrix:
    return (bands.mo_coeff * bands.filling.occ.unsqueeze(-2)) @ bands.mo_coeff.mH


def _state(layer: CrystalLayer, dm: BlochMatrix, ts: float) -> _State:
    built = layer.build(dm)
    return _State(
        built=built,
        dm=dm,
        free_energy=float(built.energy) - ts,
        entropy_energy=ts,
        error=layer.commutator(built.fock, dm),
    )


def _result(
    layer: CrystalLayer,
    state: _State,
    settings: CrystalSCFSettings,
    how: tuple[bool, int, int],
) -> CrystalSCFResult:
    bands = layer.bands(state.built.fock, settings.degeneracy_tol)
    converged, cycles, builds = how
    return CrystalSCFResult(
        energy=state.free_energy + state.entropy_energy,
        entropy_energy=state.entropy_energy,
        parts={name: float(e) for name, e in state.built.parts.items()},
        fock=state.built.fock,
        dm=state.dm,
        mo_energy=layer.orthogonal.without_removed(bands.mo_energy),
        mo_coeff=bands.mo_coeff,
        mo_occ=bands.filling.occ,
        fermi=bands.filling.fermi,
        gap=bands.filling.gap,
        converged=converged,
        iterations=cycles,
        fock_builds=builds,
        gradient_norm=state.norm,
        n_electrons=state.built.n_electrons,
        grid_error=layer.grid_error(state.built),
        build=state.built,
    )


def _say(layer: CrystalLayer, result: CrystalSCFResult) -> None:
    """What a user should know of the result."""
    if abs(result.grid_error) > COARSE:
        _log.warning(
            "the grid is coarse for these functions: two routes to the density's gradient differ "
            "by %.1e Eh per cell; raise ke_cutoff",
            result.grid_error,
        )
    if layer.smearing == 0 and result.gap < NO_GAP:
        _log.warning(
            "no gap between filled and empty levels: use smearing (for example smearing=0.005)"
        )
