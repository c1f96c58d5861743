"""Cycles of a crystal's SCF: DIIS over all k-points at once, with the dielectric step."""

import dataclasses
import logging

import torch
from torch import Tensor

from deeph_zero.ks.periodic.dielectric import dielectric_step
from deeph_zero.ks.periodic.layer import CrystalBuild, CrystalLayer
from deeph_zero.ks.periodic.result import CrystalSCFSettings
from deeph_zero.ks.periodic.types import BlochMatrix
from deeph_zero.ks.response.dielectric import stops_helping
from deeph_zero.ks.scf.adiis import adiis_coefficients
from deeph_zero.ks.scf.diis import DIIS

_log = logging.getLogger("deeph_zero")

FAR = 0.1
ENERGY_RISE = 1e-3
TRANSIENT = 3
"""After so many cycles, a gradient norm above ``FAR`` (Eh) together with an energy that rose by
``ENERGY_RISE`` (Eh) calls for ADIIS in place of DIIS."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """One build on the way.

    Attributes:
        built: The build.
        dm: Its density matrix.
        free_energy: What the iteration minimises, Eh per cell.
        entropy_energy: T S of the occupations, Eh per cell.
        error: The commutator, flat.
        converged: The tolerances were met.
    """

    built: CrystalBuild
    dm: BlochMatrix
    free_energy: float
    entropy_energy: float
    error: Tensor
    converged: bool = False

    @classmethod
    def of(cls, layer: CrystalLayer, dm: BlochMatrix, ts: float) -> "State":
        """Build at a density matrix with T S of its occupations; not yet called converged."""
        built = layer.build(dm)
        return cls(
            built=built,
            dm=dm,
            free_energy=float(built.energy) - ts,
            entropy_energy=ts,
            error=layer.commutator(built.fock, dm),
        )

    @property
    def norm(self) -> float:
        """Norm of the orbital gradient, Eh: a commutator has each of its elements twice."""
        return float(self.error.norm()) / 2**0.5


class Mixer:
    """Chooses the next Fock matrix from the builds so far."""

    def __init__(self, layer: CrystalLayer, settings: CrystalSCFSettings) -> None:
        """Start with an empty history.

        Args:
            layer: The crystal.
            settings: The iteration's knobs.
        """
        self.layer = layer
        self.tol = settings.degeneracy_tol
        self.diis = DIIS(settings.diis_space)
        self.norms: list[float] = []
        self.coulomb = layer.data.step_coulomb() if settings.dielectric else None

    def add(self, state: State) -> None:
        """Remember a build."""
        self.diis.add(torch.stack([state.built.fock, state.dm]), state.error)
        self.norms.append(state.norm)

    def shift(self, change: BlochMatrix) -> None:
        """Add a constant to every remembered Fock matrix: the builds of a changed problem."""
        builds = [pair.unbind(0) for pair in self.diis.focks]
        self.diis.clear()
        self.norms.clear()
        self.coulomb = None
        for fock, dm in builds:
            error = self.layer.commutator(fock + change, dm)
            self.diis.add(torch.stack([fock + change, dm]), error)

    def moved(self, fock: BlochMatrix, dm: BlochMatrix | None) -> BlochMatrix:
        """A matrix after the dielectric step, where that is made.

        Args:
            fock: F of ``dm``, or the same linear combination of such matrices, Eh.
            dm: The density matrix; None: superposed free atoms.

        Returns:
            Eh.
        """
        if self.coulomb is None:
            return fock
        return fock + dielectric_step(self.layer, self.coulomb, fock, dm, self.tol)

    def next(self, *, downhill: bool) -> BlochMatrix:
        """What to diagonalise next.

        Args:
            downhill: Minimise the energy of the mixture (ADIIS) in place of the commutator.

        Returns:
            The matrix, Eh.
        """
        if downhill and len(self.diis) > 1:
            root = self.layer.matrix_weights.sqrt()
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


def iterate(
    layer: CrystalLayer, start: State | None, settings: CrystalSCFSettings, mixer: Mixer
) -> tuple[State, int]:
    """Cycles until the tolerances are met, or ``max_cycle`` of them.

    Args:
        layer: The crystal.
        start: A build to begin at, remembered or not; None: superposed free atoms.
        settings: Tolerances and the iteration's knobs.
        mixer: Empty, or it remembers earlier builds, the start among them.

    Returns:
        The last iterate and the number of cycles.

    Raises:
        ComputationError: If a Fock matrix is not finite.
    """
    state = start
    if state is None:
        target = mixer.moved(layer.starting_fock(), None)
    else:
        if not len(mixer.diis):
            mixer.add(state)
        target = mixer.next(downhill=False)
    lowest, cycle = float("inf"), 0
    while cycle < settings.max_cycle and not (state is not None and state.converged):
        cycle += 1
        previous, state = state, State.of(layer, *density(layer, target, settings.degeneracy_tol))
        change = float("inf") if previous is None else state.free_energy - previous.free_energy
        close = abs(change) < settings.conv_tol or settings.conv_tol == float("inf")
        if close and state.norm < settings.gradient_tolerance:
            state = dataclasses.replace(state, converged=True)
        rising = state.free_energy > lowest + ENERGY_RISE
        lowest = min(lowest, state.free_energy)
        mixer.add(state)
        _log.debug("cycle %d: %.10f Eh, gradient %.2e", cycle, state.free_energy, state.norm)
        if not state.converged:
            far = cycle > TRANSIENT and state.norm > FAR
            target = mixer.next(downhill=far and rising)
    if state is None:
        state = State.of(layer, *density(layer, target, settings.degeneracy_tol))
    return state, cycle


def density(layer: CrystalLayer, fock: BlochMatrix, tol: float) -> tuple[BlochMatrix, float]:
    """P of a Fock matrix and T S of its occupations, without autograd."""
    bands = layer.bands(fock, tol)
    c, filling = bands.mo_coeff, bands.filling
    return (c * filling.occ.unsqueeze(-2)) @ c.mH, filling.entropy_energy
