"""The teacher: every Fock build at a geometry is kept and improves the target it teaches.

The target is where an SCF on the coarse grid ends, corrected by the latest build on the target grid
(see :mod:`.ks.scf.two_grids`): one build nearly always settles a geometry. Where there is no coarse
grid, or it leads astray, the target is the DIIS extrapolation over the remembered builds, moved on
by a dielectric step. The next density comes from diagonalising that target. A density from
elsewhere (the network's) replaces the history only where its own commutator is smaller.
"""

import copy

import torch
from torch import Tensor

from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.linalg.packed import pack_antisymmetric, pack_symmetric, unpack_symmetric
from deeph_zero.ks.response.dielectric import stops_helping
from deeph_zero.ks.scf.diis import DIIS
from deeph_zero.ks.scf.solve import Solution, coarse_solution
from deeph_zero.ks.terms.build import FockBuild
from deeph_zero.types import AOMatrix, Scalar

DEFAULT_TOL = 1e-6
"""Orbital-gradient rms (Eh) at which a target counts as converged."""


LINEAR_RESPONSE = 0.67
"""Occupied-virtual error of F[P] as a part of the orbital gradient at P: a confirmed target's."""

FIRST_STEP = 0.06
"""Occupied-virtual error of the first target from a network, as a part of the orbital gradient."""

LATER_STEPS = 0.12
"""Occupied-virtual error of an extrapolated target, as a part of the gradient that DIIS expects
before the step.

Measured with two to six builds from superposed atoms and from a network-like start. The first was
0.04 to 0.06, the second 0.05 to 0.09 on distorted water (PBE), 0.11 to 0.19 on ethanol (B3LYP), 0.1
to 0.4 on NO2 (PBE).
"""

OPEN_SHELL = 12.0
"""Factor of :data:`LATER_STEPS` for open shells, whose spin response is known less well: targets of
distorted CH3 and NO2 were off by up to twice what closed shells' would be. The rest is caution:
trained on 100 CH3 (two seeds) rebuilt matrices were 1.16 and 1.24 times as far off as supervised
training's with 4.0, and 1.00 and 1.09 times with 12.0, for 0.2 builds more.
"""

SOLVED = 1e-3
"""Occupied-virtual error of a target from the coarse grid, as a part of the orbital gradient at the
build that corrects it. Rattled water, ethanol, SO2, CH3 and NO2 from superposed atoms, F0 and
F0 + step: 4e-5 to 4e-4 (PBE, B3LYP, level 3), 2e-4 to 2e-3 (level 1)."""

SOLVED_META = 4.0
"""Factor of it for functionals of the kinetic energy density: r2SCAN 6e-4 to 6e-3."""

UNCONFIRMED = 3.0
"""A target that was not confirmed is finished at an expected error of so many times ``tol``."""

LABELLING_STEP = 0.03
"""Orbital gradient at the second build of labelling, as a part of the first's: 0.02 to 0.04."""

HISTORY = 6
"""Builds that are remembered: most geometries never have more."""

PATIENCE = 25
"""Builds after which plain DIIS is given up for the SCF solver with its fallbacks."""


Solved = tuple[Solution | None]
"""What :func:`~deeph_zero.ks.scf.solve.coarse_solution` gave, where it was asked already."""


def gradient_rms(ks: KohnSham, fock: AOMatrix, dm: AOMatrix, *, floor: float = 0.0) -> Scalar:
    """Orbital-gradient rms of a density from its commutator; differentiable in both matrices.

    ‖Xᵀ(FPS - SPF)X‖² holds each occupied-virtual element of F twice, times its occupation squared.

    Args:
        ks: The molecule.
        fock: Fock matrix, Eh.
        dm: Density matrix.
        floor: Added in quadrature (Eh), so that the slope stays finite at zero.

    Returns:
        Root mean square over all occupied-virtual elements and spins, Eh.
    """
    error = ks.commutator(fock, dm)
    pairs = max(ks.layer.orbital_pairs, 1)
    return (error.square().sum() / (2 * pairs * ks.layer.per_orbital**2) + floor**2).sqrt()


class Teacher:
    """Target Fock matrix of one geometry, improved one build at a time."""

    def __init__(
        self,
        ks: KohnSham,
        fock0: AOMatrix,
        tol: float = DEFAULT_TOL,
        *,
        dm0: AOMatrix | None = None,
    ) -> None:
        """Start from the Fock matrix of the atomic-density guess (already built and counted).

        Args:
            ks: The molecule.
            fock0: F[P₀]; the first target, after a dielectric step.
            tol: Orbital-gradient rms below which the target is converged.
            dm0: P₀; without it ``fock0`` is only where the first density comes from.
        """
        self.ks = ks
        self.tol = tol
        self.diis = DIIS(HISTORY)
        self.target: Tensor = fock0
        self.residual = float("inf")
        self.energy = float("nan")
        self.builds = 0
        self.started = False
        self._first_rms = float("inf")
        self._from_network = False
        self._given_up = False
        self._solved = False
        if dm0 is not None:
            self._first_rms = self.rms(fock0, dm0)
            self._keep(dm0, fock0)
            if self._solved:
                self.started, self.residual = True, self._first_rms

    def on(self, ks: KohnSham) -> "Teacher":
        """The teacher with a layer of other data of the geometry.

        Args:
            ks: The layer.

        Returns:
            A new one, which remembers the same builds.
        """
        new = copy.copy(self)
        new.ks = ks
        return new

    @property
    def converged(self) -> bool:
        """A build at the target's own density confirmed it."""
        return self.residual <= self.tol

    @property
    def finished(self) -> bool:
        """Nothing more will be spent: labelling would not have cost less.

        Labelling ends with a build that confirms. A teacher that began at a network's density may
        be one build behind by then, so it ends without; so does one with a coarse grid.
        """
        unconfirmed = self._from_network or self._solved
        close = unconfirmed and self.expected_error <= UNCONFIRMED * self.tol
        return self.converged or self._given_up or close

    @property
    def expected_error(self) -> float:
        """Estimate of the rms error of the target's occupied-virtual block, Eh."""
        if not self.started:
            return float("inf")
        if self._solved and not self.converged:
            return self._solved_part * self.residual
        if len(self.diis) == 1:
            return (LINEAR_RESPONSE if self.converged else FIRST_STEP) * self.residual
        norm = self.diis.expected_error() / self.ks.layer.per_orbital
        steps = LATER_STEPS * (OPEN_SHELL if self.ks.unrestricted else 1.0)
        return steps * norm / (2 * max(self.ks.layer.orbital_pairs, 1)) ** 0.5

    def advance(self) -> float:
        """Spend one build at the target's density; returns the new residual, Eh.

        A geometry on which DIIS fails gets one run of the SCF solver; if that fails too its target
        stays as it is and costs nothing more.
        """
        if self.finished:
            return self.residual
        dm = self.proposal()
        if self.needs_solver:
            self._solve(dm)
        else:
            self.learn(dm, self.ks.build(dm))
        return self.residual

    @property
    def _solved_part(self) -> float:
        functional = self.ks.data.functional
        meta = functional is not None and functional.kind == "MGGA"
        return SOLVED * (SOLVED_META if meta else 1.0)

    @property
    def needs_solver(self) -> bool:
        """DIIS had its chance: :meth:`advance` takes the SCF solver."""
        return self.builds >= PATIENCE

    @torch.no_grad()
    def proposal(self) -> AOMatrix:
        """Density of the next build."""
        return self.ks.density(self.target)

    def learn(self, dm: AOMatrix, built: FockBuild, solved: Solved | None = None) -> None:
        """Take in a build at :meth:`proposal`.

        Args:
            dm: The proposal.
            built: Energy and F[dm].
            solved: Where the coarse SCF ends from there, if that is known.
        """
        self.builds += 1
        rms = self.rms(built.fock, dm)
        self._remember(dm, built.fock, float(built.energy), rms, solved)

    def _solve(self, dm: AOMatrix) -> None:
        """Finish with the SCF solver, to the same orbital gradient."""
        per_orbital = self.ks.layer.per_orbital
        result = self.ks.scf(
            dm,
            conv_tol=1e-9,
            conv_tol_grad=self.tol * per_orbital * max(self.ks.layer.orbital_pairs, 1) ** 0.5,
            degeneracy_tol=self.ks.degeneracy_tol,
            hint=False,
        )
        self.builds += result.fock_builds
        self._given_up = not result.converged
        self.offer(result.dm, result.fock, result.energy)

    def offer(
        self, dm: AOMatrix, fock: AOMatrix, energy: float, solved: Solved | None = None
    ) -> bool:
        """Consider a build made elsewhere (the network's density).

        Args:
            dm: Density matrix of the build.
            fock: F[dm].
            energy: E[dm], Eh.
            solved: Where the coarse SCF ends from there, if that is known.

        Returns:
            Whether it was better than the last remembered one and restarted the history.
        """
        rms = self.rms(fock, dm)
        if rms >= self.residual:
            return False
        self._from_network = self._from_network or not self.started
        if self.started or rms <= LABELLING_STEP * self._first_rms:
            self.diis.clear()
        self._remember(dm, fock, energy, rms, solved)
        return True

    def ends_at(self, dm: AOMatrix, fock: AOMatrix) -> bool:
        """Whether a build confirms the target, so that nothing behind it is asked for.

        Args:
            dm: The density matrix.
            fock: F[dm], Eh.

        Returns:
            As :attr:`converged` will be.
        """
        return self.rms(fock, dm) <= self.tol

    def rms(self, fock: AOMatrix, dm: AOMatrix) -> float:
        """Orbital-gradient rms of a density from its commutator, Eh."""
        return float(gradient_rms(self.ks, fock, dm))

    def _remember(
        self, dm: AOMatrix, fock: AOMatrix, energy: float, rms: float, solved: Solved | None
    ) -> None:
        self.started = True
        self.residual = rms
        self.energy = energy
        self._keep(dm, fock, solved)

    def _keep(self, dm: AOMatrix, fock: AOMatrix, solved: Solved | None = None) -> None:
        """Add a build to the history and make the target anew."""
        error = self.ks.commutator(fock, dm)
        # many geometries remember many builds: only triangles are kept
        self.diis.add(pack_symmetric(torch.stack([fock, dm])), pack_antisymmetric(error))
        if self.converged:
            self.target = fock
            self.diis.keep_last()
            return
        if solved is None:
            at = self.ks.to_layer(dm), self.ks.to_layer(fock)
            solved = (coarse_solution(self.ks.layer, *at),)
        (solution,) = solved
        self._solved = solution is not None
        if solution is not None:
            self.target = self.ks.from_layer(solution.fock)
            return
        mean, mean_dm = unpack_symmetric(self.diis.extrapolate()).unbind(0)
        stalled = stops_helping([float(error.norm()) for error in self.diis.errors[-3:]])
        self.target = mean if stalled else mean + self.ks.dielectric_step(mean, mean_dm)

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on after a restart, as tensors."""
        device = self.target.device
        scalars = torch.tensor(
            [
                self.residual,
                self.energy,
                self.builds,
                self._given_up,
                self.started,
                self._first_rms,
                self._from_network,
                self._solved,
            ],
            dtype=torch.float64,
            device=device,
        )
        out = {"target": self.target, "scalars": scalars}
        if len(self.diis):
            out["focks"] = torch.stack(self.diis.focks)
            out["errors"] = torch.stack(self.diis.errors)
        return out

    def restore(self, state: dict[str, Tensor]) -> None:
        """Undo :meth:`state`."""
        device = self.ks.data.ovlp.device
        self.target = state["target"].to(device)
        # checkpoints of 0.1 end one earlier
        scalars = [*state["scalars"].tolist(), 0.0][:8]
        residual, energy, builds, given_up, started, first, network, solved = scalars
        self.residual, self.energy, self.builds = residual, energy, int(builds)
        self._given_up, self.started = bool(given_up), bool(started)
        self._first_rms, self._from_network, self._solved = first, bool(network), bool(solved)
        self.diis.clear()
        if "focks" in state:
            self.diis.focks = list(state["focks"].to(device).unbind(0))
            self.diis.errors = list(state["errors"].to(device).unbind(0))


class GivenTarget(Teacher):
    """Teaches a matrix that is known: makes no build and remembers none."""

    def __init__(self, ks: KohnSham, target: AOMatrix) -> None:
        """Bind.

        Args:
            ks: The molecule; no build is asked of it.
            target: Converged Fock matrix, Eh.
        """
        super().__init__(ks, target)
        self.diis = DIIS(0)
        self.residual, self.started = 0.0, True

    def state(self) -> dict[str, Tensor]:
        """Nothing: the target is known before a restart, and after it."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing to undo."""
