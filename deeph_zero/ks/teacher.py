"""The teacher: every Fock build at a geometry is kept and improves the target it teaches.

The target is the DIIS extrapolation over the remembered builds and the next density comes from
diagonalising that target; a density from elsewhere (the network's) replaces the history only where
its own commutator is smaller.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deeph_zero.ks.diis import DIIS
from deeph_zero.types import AOMatrix

if TYPE_CHECKING:
    from deeph_zero.ks.layer import KohnShamLayer

DEFAULT_TOL = 1e-6
"""Orbital-gradient rms (Eh) at which a target counts as converged."""


class Teacher:
    """Target Fock matrix of one geometry, improved one build at a time."""

    def __init__(self, layer: "KohnShamLayer", fock0: AOMatrix, tol: float = DEFAULT_TOL) -> None:
        """Start from the Fock matrix of the atomic-density guess (already built and counted).

        Args:
            layer: The molecule.
            fock0: F[P₀]; the first target.
            tol: Orbital-gradient rms below which the target is converged.
        """
        self.layer = layer
        self.tol = tol
        self.diis = DIIS()
        self.target: Tensor = fock0
        self.residual = float("inf")
        self.energy = float("nan")
        self.builds = 0

    @property
    def converged(self) -> bool:
        """A build at the target's own density confirmed it."""
        return self.residual <= self.tol

    def advance(self) -> float:
        """Spend one build at the target's density; returns the new residual, Eh."""
        if not self.converged:
            with torch.no_grad():
                dm = self.layer.density(self.target)
            built = self.layer.build(dm)
            self.builds += 1
            self._remember(dm, built.fock, float(built.energy))
        return self.residual

    def offer(self, dm: AOMatrix, fock: AOMatrix, energy: float) -> bool:
        """Consider a build made elsewhere (the network's density).

        Args:
            dm: Density matrix of the build.
            fock: F[dm].
            energy: E[dm], Eh.

        Returns:
            Whether it was better than the last remembered one and restarted the history.
        """
        if self.rms(fock, dm) >= self.residual:
            return False
        self.diis.clear()
        self._remember(dm, fock, energy)
        return True

    def rms(self, fock: AOMatrix, dm: AOMatrix) -> float:
        """Orbital-gradient rms of a density from its commutator, Eh."""
        error = self.layer.commutator(fock, dm)
        pairs = sum(n * (self.layer.nmo - n) for n in self._channels())
        per_orbital = 1.0 if dm.ndim == 3 else 2.0
        return float(error.square().sum() / (2 * max(pairs, 1))) ** 0.5 / per_orbital

    def _channels(self) -> tuple[int, ...]:
        n_a, n_b = self.layer.nelec
        return (n_a, n_b) if self.layer.unrestricted else (n_a,)

    def _remember(self, dm: AOMatrix, fock: AOMatrix, energy: float) -> None:
        self.residual = self.rms(fock, dm)
        self.energy = energy
        self.diis.add(fock, self.layer.commutator(fock, dm))
        self.target = fock if self.converged else self.diis.extrapolate()

    def state(self) -> dict[str, Tensor]:
        """Everything needed to go on after a restart, as tensors."""
        device = self.target.device
        scalars = torch.tensor(
            [self.residual, self.energy, self.builds], dtype=torch.float64, device=device
        )
        out = {"target": self.target, "scalars": scalars}
        if len(self.diis):
            out["focks"] = torch.stack(self.diis.focks)
            out["errors"] = torch.stack(self.diis.errors)
        return out

    def restore(self, state: dict[str, Tensor]) -> None:
        """Undo :meth:`state`."""
        device = self.layer.data.ovlp.device
        self.target = state["target"].to(device)
        residual, energy, builds = state["scalars"].tolist()
        self.residual, self.energy, self.builds = residual, energy, int(builds)
        self.diis.clear()
        if "focks" in state:
            self.diis.focks = list(state["focks"].to(device).unbind(0))
            self.diis.errors = list(state["errors"].to(device).unbind(0))
