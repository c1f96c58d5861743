"""What one Fock build says of a crystal's density: orbital gradient and estimate of its error.

H gave the density P(H), the build gives F. To second order the free energy lies above its minimum
by ½ δ·χ₀·(F - H), where H - δ is self-consistent and χ₀ is the response of independent electrons.
The cheap estimate takes δ = H - F, ½ |√(-χ₀) (F - H)|². The coupled one goes along the step that
the dielectric response proposes from F, y, with its curvature from one response build K:

    ½ (y·χ₀·(F - H))² / (-y·χ₀·y + D·K[D]),    D = χ₀ y.
"""

import dataclasses
import math

import torch
from torch import Tensor

from deeph_zero.ks.periodic.dielectric import Pairs, dielectric_step
from deeph_zero.ks.periodic.layer import Bands, CrystalBuild, CrystalLayer
from deeph_zero.ks.periodic.types import BlochMatrix, weighted_trace
from deeph_zero.ks.smearing import NO_ORBITAL


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalCertificate:
    """How wrong a predicted density is; Eh, per cell.

    Attributes:
        energy: E[P̂].
        free_energy: E[P̂] - T S, what is stationary; the energy itself without smearing.
        energy_error_estimate: Estimate of how far ``free_energy`` lies above the converged one,
            0 or more.
        orbital_gradient_rms: Root mean square of F between filled and empty orbitals of H.
        coupled: The estimate includes a response build.
        stable: The energy curves upwards along the step; the cheap estimate stands otherwise.
    """

    energy: float
    free_energy: float
    energy_error_estimate: float
    orbital_gradient_rms: float
    coupled: bool
    stable: bool


@torch.no_grad()
def crystal_certificate(
    layer: CrystalLayer, fock: BlochMatrix, built: CrystalBuild, *, coupled: bool = True
) -> CrystalCertificate:
    """Certificate of the density of a Hamiltonian from the build made there.

    Args:
        layer: The crystal.
        fock: H, Eh.
        built: The build at P(H).
        coupled: Spend one response build.

    Returns:
        The certificate.
    """
    bands = layer.bands(fock)
    pairs = Pairs(layer, bands)
    energy = float(built.energy)
    rest = built.fock - fock
    residual = pairs.of(rest)
    estimate, stable = 0.5 * float(pairs.dot(residual, residual)), True
    if coupled and estimate > 0:
        lowering = _lowering(layer, pairs, built, rest, residual)
        stable = lowering is not None
        estimate = estimate if lowering is None else lowering
    return CrystalCertificate(
        energy=energy,
        free_energy=energy - bands.filling.entropy_energy,
        energy_error_estimate=estimate,
        orbital_gradient_rms=gradient_rms(layer, bands, built.fock),
        coupled=coupled and stable,
        stable=stable,
    )


def _lowering(
    layer: CrystalLayer, pairs: Pairs, built: CrystalBuild, rest: BlochMatrix, residual: Tensor
) -> float | None:
    """The coupled estimate; None where the energy does not curve upwards."""
    change = rest
    if layer.data.mesh is not None:
        coulomb = layer.data.step_coulomb()
        change = rest + dielectric_step(layer, coulomb, built.fock, built.dm)
    along = pairs.of(change)
    step = -pairs.density(along)
    slope = float(pairs.dot(residual, along))
    own = weighted_trace(layer.data.weights, layer.response(built.dm, step), step)
    curvature = float(pairs.dot(along, along)) + float(own)
    return 0.5 * slope**2 / curvature if curvature > 0 else None


def gradient_rms(layer: CrystalLayer, bands: Bands, fock: BlochMatrix) -> float:
    """Root mean square of F between filled and empty orbitals, over all pairs, k and spins.

    Args:
        layer: The crystal.
        bands: The orbitals; levels that are at least half filled count as filled.
        fock: F, Eh.

    Returns:
        The orbital gradient, Eh.
    """
    c = bands.mo_coeff
    between = (c.mH @ fock @ c).abs().square()
    filled = bands.filling.occ > 0.5 * (2.0 / layer.nspin)
    empty = ~filled & (bands.mo_energy < NO_ORBITAL)
    pairs = (filled.unsqueeze(-1) & empty.unsqueeze(-2)).double() * layer.matrix_weights
    count = float(pairs.sum())
    return math.sqrt(float((pairs * between).sum()) / count) if count else 0.0
