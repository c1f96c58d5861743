"""Label-free losses of one geometry: energy, self-consistency and fixed point, all in mEh.

Matrix losses are root mean squares per geometry, so that easy and distorted geometries pull with
comparable strength and gradients keep their size as the error falls.
"""

import dataclasses
from collections.abc import Callable

from torch import Tensor

from deeph_zero.train.problem import Problem
from deeph_zero.types import AOMatrix

MILLI = 1e3
FLOOR = 1e-9
"""RMS below which a loss turns flat, Eh."""


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
    """RMS of H - F[P(H)], differentiated through density and rebuild; one build, one response.

    References:
        H. Zhang et al., ICML 2024, arXiv:2403.09560.
    """
    dm = problem.ks.density(hamiltonian)
    _, fock = problem.ks(dm)
    rms = _rms(orthonormal(problem, hamiltonian - fock))
    gradient = problem.teacher.rms(fock.detach(), dm.detach())
    return LossValue(MILLI * rms, float(rms.detach()), gradient)


def fixed_point_loss(problem: Problem, hamiltonian: AOMatrix) -> LossValue:
    """RMS of H - F* with the teacher's target F* held constant; no build of its own.

    The occupied-virtual block, which alone moves the density, is added on its own in orthonormal
    orbitals of the target, with weight ``OV_WEIGHT``.
    """
    delta = hamiltonian - problem.teacher.target
    vectors, pairs = problem.target_frame()
    mixed = vectors.mT @ orthonormal(problem, delta) @ vectors
    ov = _root((mixed.square() * pairs).sum() / pairs.sum().clamp_min(1.0))
    rms = _rms(delta)
    return LossValue(MILLI * (rms + OV_WEIGHT * ov), float(rms.detach()), float(ov.detach()))


def _rms(matrix: Tensor) -> Tensor:
    return _root(matrix.square().mean())


def _root(square: Tensor) -> Tensor:
    """Square root with a finite slope at zero."""
    return (square + FLOOR**2).sqrt()


OV_WEIGHT = 0.3
"""Weight of the occupied-virtual RMS beside the RMS of the whole matrix."""

LOSSES: dict[str, Callable[[Problem, AOMatrix], LossValue]] = {
    "energy": energy_loss,
    "self-consistency": self_consistency_loss,
    "fixed-point": fixed_point_loss,
}
