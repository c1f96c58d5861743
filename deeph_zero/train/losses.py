"""Label-free losses of one geometry: energy, self-consistency and fixed point.

Matrix losses are mean squares in mEh², so that their gradients stay far above the optimiser's
rounding.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from deeph_zero.train.problem import Problem
from deeph_zero.types import AOMatrix

MILLI = 1e3


@dataclasses.dataclass(frozen=True)
class LossValue:
    """A loss and what it learned on the way.

    Attributes:
        loss: Scalar with gradient.
        residual: RMS of H - F in the orthonormal basis, Eh (F the target, or F[P(H)]).
        gradient: Orbital-gradient rms at P(H), Eh; estimated from the target where no build was
            made there.
    """

    loss: Tensor
    residual: float
    gradient: float


def orthonormal(problem: Problem, matrix: AOMatrix) -> Tensor:
    """Xᵀ M X with Xᵀ S X = 1."""
    return problem.ks.x.mT @ matrix @ problem.ks.x


def energy_loss(problem: Problem, hamiltonian: AOMatrix) -> LossValue:
    """E[P(H)] in mEh: fixes the occupied space only; one build, no response.

    References:
        Y. Li et al., Phys. Rev. Lett. 133, 076401 (2024).
    """
    dm = problem.ks.density(hamiltonian)
    energy, fock = problem.ks(dm)
    fock, dm = fock.detach(), dm.detach()
    residual = orthonormal(problem, hamiltonian.detach() - fock).square().mean().sqrt()
    # the constant keeps the number readable and changes no gradient
    offset = energy.detach().round()
    return LossValue(MILLI * (energy - offset), float(residual), problem.teacher.rms(fock, dm))


def self_consistency_loss(problem: Problem, hamiltonian: AOMatrix) -> LossValue:
    """‖H - F[P(H)]‖², differentiated through density and rebuild; one build and one response.

    References:
        H. Zhang et al., ICML 2024, arXiv:2403.09560.
    """
    dm = problem.ks.density(hamiltonian)
    _, fock = problem.ks(dm)
    square = orthonormal(problem, hamiltonian - fock).square().mean()
    gradient = problem.teacher.rms(fock.detach(), dm.detach())
    return LossValue(MILLI**2 * square, float(square.detach()) ** 0.5, gradient)


def fixed_point_loss(problem: Problem, hamiltonian: AOMatrix) -> LossValue:
    """‖H - F*‖² with the teacher's target F* held constant; no build of its own.

    The occupied-virtual block, which alone moves the density, counts ``OV_WEIGHT`` times more.
    """
    delta = hamiltonian - problem.teacher.target
    vectors, pairs = problem.target_frame()
    mixed = vectors.mT @ orthonormal(problem, delta) @ vectors
    ov = (mixed.square() * pairs).sum() / pairs.sum().clamp_min(1.0)
    square = delta.square().mean()
    loss = MILLI**2 * (square + OV_WEIGHT * ov)
    return LossValue(loss, float(square.detach()) ** 0.5, float(ov.detach()) ** 0.5)


OV_WEIGHT = 1.0
"""Weight of the occupied-virtual mean square beside the mean square of the whole matrix."""

LOSSES: dict[str, Callable[[Problem, AOMatrix], LossValue]] = {
    "energy": energy_loss,
    "self-consistency": self_consistency_loss,
    "fixed-point": fixed_point_loss,
}
