"""Second-order SCF: trust-region Newton steps on orbital rotations, for where DIIS stalls.

Each step minimises the quadratic model of E inside a trust region by preconditioned conjugate
gradients; a direction of negative curvature is followed to the boundary, so that the iteration
leaves saddle points it comes near. A step that does not lower the energy is taken back.
"""

import dataclasses
import itertools
import logging

import torch

from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.linalg.conjugate_gradients import Vectors, steps
from deeph_zero.ks.response.orbital_rotation import Rotations, Vector
from deeph_zero.types import SpinMatrix

_log = logging.getLogger("deeph_zero")

MAX_MICRO = 15
"""Response builds of one step at most."""

START_RADIUS = 0.4
MAX_RADIUS = 1.5
"""In √Eh: the norm of M^½ x, M the preconditioner; its square is twice the energy at stake."""

DIAGONAL_FLOOR = 0.2
"""Smallest preconditioner element, Eh."""

NOISE = 1e-12
"""Energy changes below this (relative to |E|) are rounding: a step is not judged by them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewtonState:
    """Where a second-order iteration stands; energies in Eh."""

    energy: float
    fock: SpinMatrix
    dm: SpinMatrix
    gradient_norm: float
    converged: bool
    cycles: int


class TrustRegion:
    """Steihaug's truncated conjugate gradients; a smaller radius costs no further products.

    References:
        T. Steihaug, SIAM J. Numer. Anal. 20, 626 (1983), algorithm of section 2.
    """

    def __init__(self, rotations: Rotations) -> None:
        """Scale the problem by the preconditioner.

        Args:
            rotations: The orbital rotations about the present density.
        """
        self._rotations = rotations
        self._scale = rotations.diagonal.abs().clamp_min(DIAGONAL_FLOOR).sqrt()
        self._gradient = rotations.gradient / self._scale
        self._products: list[Vector] = []

    def _product(self, k: int, p: Vector) -> Vector:
        # direction k does not depend on the radius
        if k == len(self._products):
            self._products.append(self._rotations.hessian(p / self._scale) / self._scale)
        return self._products[k]

    def length(self, x: Vector) -> float:
        """Norm of a rotation in the trust region's metric, √Eh."""
        return float((x * self._scale).norm())

    def step(self, radius: float) -> tuple[Vector, float, bool]:
        """Minimise the model inside the radius.

        Args:
            radius: Largest norm of the scaled step.

        Returns:
            The rotation x, the energy change the model predicts (< 0, Eh), and whether the step
            ends on the boundary.
        """
        size = float(self._gradient.norm())
        goal = self._gradient.new_tensor([min(0.3, size**0.5) * size])
        count = itertools.count()

        def product(p: Vectors) -> Vectors:
            return self._product(next(count), p.squeeze(0)).unsqueeze(0)

        z, predicted = torch.zeros_like(self._gradient), 0.0
        iteration = steps(product, -self._gradient.unsqueeze(0), goal)
        for _, step in zip(range(MAX_MICRO), iteration, strict=False):
            p, residual = step.direction[0], step.residual[0]
            curvature, slope = float(step.curvature), float(residual @ p)
            alpha = float(step.length) if curvature > 0 else float("inf")
            if not float((z + min(alpha, 1e6) * p).norm()) < radius:
                tau = _to_boundary(z, p, radius)
                predicted += 0.5 * tau**2 * curvature - tau * slope
                return (z + tau * p) / self._scale, predicted, True
            z = step.moved[0]
            predicted -= 0.5 * alpha * slope
        return z / self._scale, predicted, False


def _to_boundary(z: Vector, p: Vector, radius: float) -> float:
    """τ > 0 with ‖z + τ p‖ = radius."""
    pp, zp, zz = float(p @ p), float(z @ p), float(z @ z)
    root = (zp**2 + pp * max(radius**2 - zz, 0.0)) ** 0.5
    return (root - zp) / pp


def minimise(
    layer: KohnShamLayer,
    dm: SpinMatrix,
    fock: SpinMatrix,
    energy: float,
    *,
    conv_tol: float,
    gradient_tolerance: float,
    max_cycle: int,
) -> NewtonState:
    """Lower the energy over determinants until the orbital gradient vanishes.

    Args:
        layer: The molecule; every build and response is counted there.
        dm: Idempotent density matrix to start from.
        fock: F[dm], Eh.
        energy: E[dm], Eh.
        conv_tol: Energy change of the last step, Eh.
        gradient_tolerance: Norm of the orbital gradient (PySCF's ``get_grad``), Eh.
        max_cycle: Fock builds at most, responses not among them.

    Returns:
        The lowest determinant reached and whether both tolerances were met.

    Raises:
        InputError: If ``dm`` has fractional occupations.
    """
    rotations = Rotations(layer, dm, fock)
    region = TrustRegion(rotations)
    radius, last_change, cycles = START_RADIUS, float("inf"), 0
    while True:
        # PySCF's gradient is half of dE/dx, for a closed shell and per spin
        norm = float(rotations.gradient.norm()) / 2
        converged = norm < gradient_tolerance and last_change < conv_tol
        if converged or cycles >= max_cycle or radius < 1e-8:
            break
        cycles += 1
        x, predicted, at_boundary = region.step(radius)
        trial = rotations.rotated(x)
        built = layer.build(trial)
        change = float(built.energy) - energy
        noise = NOISE * max(1.0, abs(energy))
        ratio = 1.0 if max(-predicted, abs(change)) < noise else change / min(predicted, -1e-300)
        _log.debug(
            "second order %d: E %.10f dE %.2e (predicted %.2e), gradient %.1e, radius %.2g",
            cycles, energy, change, predicted, norm, radius,
        )  # fmt: skip
        length = region.length(x)
        if ratio < 0.25:
            radius = 0.25 * min(radius, length)
        elif ratio > 0.75 and at_boundary:
            radius = min(2 * radius, MAX_RADIUS)
        if ratio > 0:
            dm, fock, energy = trial, built.fock, float(built.energy)
            last_change = abs(change)
            rotations = Rotations(layer, dm, fock)
            region = TrustRegion(rotations)
    return NewtonState(
        energy=energy,
        fock=fock,
        dm=dm,
        gradient_norm=norm,
        converged=converged,
        cycles=cycles,
    )
