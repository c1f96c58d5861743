"""Coupled-perturbed Kohn-Sham equations: what a density does when the Hamiltonian is changed.

About a stationary determinant, with F¹ the change of the Fock matrix at fixed density and S¹ that
of the overlap, the occupied-virtual rotations x and the change dP of the density are

    (e_a - e_i) x_ai + R[dP(x)]_ai = -(F¹_ai - e_i S¹_ai + R[dP⁰]_ai),
    dP = f (C_v x C_oᵀ + transpose) + dP⁰,      dP⁰ = -f C_o (C_oᵀ S¹ C_o) C_oᵀ,

R the response of the Fock matrix and f the electrons per orbital. All perturbations are solved
together, by conjugate gradients preconditioned with the orbital-energy differences.

References:
    J. A. Pople, R. Krishnan, H. B. Schlegel and J. S. Binkley, Int. J. Quantum Chem. Symp. 13, 225
    (1979), eqs. 19-30.
"""

import dataclasses
import logging

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.linalg.conjugate_gradients import Vectors, solve
from deeph_zero.ks.response.orbital_rotation import Rotations
from deeph_zero.types import SpinMatrix

TOLERANCE = 1e-9
"""Residual of the equations at which they count as solved, relative to their right-hand side."""

FLOOR = 1e-12
"""Right-hand sides with a norm below this (Eh) change nothing."""

SMALLEST_GAP = 0.05
"""Smallest preconditioner element, Eh."""

MAX_STEPS = 100

GROUP = 24
"""Perturbations solved at a time: their matrices are held together."""

_log = logging.getLogger("deeph_zero")

Perturbations = Float[Tensor, "n nspin nao nao"]
Overlaps = Float[Tensor, "n nao nao"]


@dataclasses.dataclass(frozen=True)
class Changes:
    """First derivatives along some perturbations.

    Attributes:
        dm: Derivative of the density matrix.
        fock: Derivative of the Fock matrix: F¹ plus the response to ``dm``, Eh.
    """

    dm: Perturbations
    fock: Perturbations


class CoupledPerturbed:
    """The coupled-perturbed equations about one converged density."""

    def __init__(self, layer: KohnShamLayer, dm: SpinMatrix, fock: SpinMatrix) -> None:
        """Semicanonical orbitals, and what all responses share.

        Args:
            layer: The molecule; its response builds are used and counted.
            dm: Self-consistent density matrix of integer occupations.
            fock: F[dm], Eh.

        Raises:
            InputError: If occupations are fractional.
        """
        self._layer = layer
        if layer.smearing > 0:
            raise InputError(
                "expected integer occupations for the response to a perturbation, got smearing "
                f"{layer.smearing:g}; leave smearing out"
            )
        with torch.no_grad():
            self.rotations = Rotations(layer, dm, fock)
            self._response = layer.linear_response(dm)
        self._in_fields: tuple[float, Changes] | None = None

    def in_fields(self, tol: float = TOLERANCE) -> "Changes":
        """What static electric fields along x, y and z change; solved once for all who ask.

        Args:
            tol: Relative residual; a result that is as tight is taken as it is.

        Returns:
            dP and dF of three perturbations F¹ = r.

        Raises:
            ComputationError: If the equations do not converge.
        """
        if self._in_fields is None or self._in_fields[0] > tol:
            layer = self.rotations.layer
            fields = layer.data.dipole.unsqueeze(1).repeat(1, layer.nspin, 1, 1)
            self._in_fields = tol, self.solve(fields, tol=tol)
        return self._in_fields[1]

    def solve(
        self, fock1: Perturbations, ovlp1: Overlaps | None = None, tol: float = TOLERANCE
    ) -> Changes:
        """Density and Fock matrix to first order in perturbations.

        Args:
            fock1: Change of the Fock matrix at fixed density, of each perturbation, Eh.
            ovlp1: Change of the overlap of each, [n, nao, nao]; None where it has none.
            tol: Relative residual.

        Returns:
            dP and dF.

        Raises:
            ComputationError: If the equations do not converge.
        """
        dms, focks = torch.zeros_like(fock1), fock1.clone()
        definite = True
        with torch.no_grad():
            for start in range(0, len(fock1), GROUP):
                some = slice(start, start + GROUP)
                own = None if ovlp1 is None else ovlp1[some]
                part, positive = self._solve(fock1[some], own, tol)
                dms[some], focks[some] = part.dm, part.fock
                definite = definite and positive
        if not definite:
            _log.warning(
                "the converged density is a saddle point of the energy, not a minimum: its "
                "response is that of the saddle point (see ks.stability)"
            )
        return Changes(dms, focks)

    def _solve(
        self, fock1: Perturbations, ovlp1: Overlaps | None, tol: float
    ) -> tuple[Changes, bool]:
        rotations = self.rotations
        fixed, known, right = torch.zeros_like(fock1), fock1, fock1
        if ovlp1 is not None:
            parts = [rotations.overlap_change(one) for one in ovlp1]
            fixed = torch.stack([dm for dm, _ in parts])
            known = fock1 + self._response(fixed)
            right = known - torch.stack([weighted for _, weighted in parts])
        rhs = -torch.stack([rotations.coupling(one) for one in right])
        if rotations.size == 0:
            return Changes(fixed, known), True
        diagonal = rotations.diagonal / (2 * rotations.electrons)
        inverse = 1.0 / diagonal.abs().clamp_min(SMALLEST_GAP)
        goal = (tol * rhs.norm(dim=-1)).clamp_min(FLOOR)
        found = solve(
            self._product,
            rhs,
            precondition=lambda x: x * inverse,
            goal=goal,
            max_steps=MAX_STEPS,
        )
        if not found.converged:
            raise ComputationError(
                "expected the coupled-perturbed equations to converge, their residual is "
                f"{float(found.residual.max()):.1e} Eh after {MAX_STEPS} steps; look at "
                "ks.stability: a near-degenerate state has no linear response"
            )
        moved = torch.stack([rotations.first_order(x) for x in found.x])
        return Changes(fixed + moved, known + self._response(moved)), found.definite

    def _product(self, some: Vectors) -> Vectors:
        rotations = self.rotations
        moved = self._response(torch.stack([rotations.first_order(x) for x in some]))
        return torch.stack(
            [rotations.projected(x, one) for x, one in zip(some, moved, strict=True)]
        )
