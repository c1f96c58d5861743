"""What one Fock build says of a crystal's density: orbital gradient and estimate of its error.

H gave the density P(H), the build gives F. To second order the free energy lies above its minimum
by ½ δ·χ₀·(F - H), where H - δ is self-consistent and χ₀ is the response of independent electrons.
The cheap estimate takes δ = H - F, ½ |√(-χ₀) (F - H)|². The coupled one goes along the step that
the dielectric response proposes from F, y, with its curvature from one response build K:

    ½ (y·χ₀·(F - H))² / (-y·χ₀·y + D·K[D]),    D = χ₀ y.

Where levels cross the Fermi level, or charge sloshes along a direction that y hardly has, neither
is worth anything. Two signs say so, without a build: how much of F - H is left after the step, and
how far the density of H + y is from the linear P + D. Then an SCF on the coarse mesh gives the
estimate, as for molecules; without one the certificate says its doubts.
"""

import dataclasses
import math

import torch
from torch import Tensor

from deeph_zero.ks.periodic.dielectric import Pairs, dielectric_step
from deeph_zero.ks.periodic.layer import Bands, CrystalBuild, CrystalLayer
from deeph_zero.ks.periodic.two_meshes import coarse_lowering
from deeph_zero.ks.periodic.types import BlochMatrix, weighted_trace
from deeph_zero.ks.smearing import NO_ORBITAL

LEFT = 0.2
"""Part of F - H that may be left after the step. Chains of hydrogen, H up to 0.3 Eh off: estimates
with neither sign were within 2 % of the truth, with this one down to a fortieth of it. Graphene at
H₀: 0.02 for eight atoms, where the estimate is right; 0.57 with a vacancy, where it is too low."""

BENT = 0.2
"""Part by which the density after the step may differ from the linear one. The same chains: 0.6
goes with 8 % off, 3.8 with a fifth of the truth."""

NEGLIGIBLE = 1e-9
"""Eh per cell; an estimate below it is rounding, and not judged."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalCertificate:
    """How wrong a predicted density is; Eh, per cell.

    Attributes:
        energy: E[P̂].
        free_energy: E[P̂] - T S, what is stationary; the energy itself without smearing.
        energy_error_estimate: Estimate of how far ``free_energy`` lies above the converged one,
            0 or more.
        orbital_gradient_rms: Root mean square of F between filled and empty orbitals of H.
        coupled: The estimate includes the response.
        stable: The energy curves upwards along the step, or an SCF on the coarse mesh found where
            it ends; the cheap estimate stands otherwise.
        doubts: Why the estimate may be far too small; one phrase per sign, none if there is none.
        coarse_builds: Builds on the coarse mesh that the estimate took.
    """

    energy: float
    free_energy: float
    energy_error_estimate: float
    orbital_gradient_rms: float
    coupled: bool
    stable: bool
    doubts: tuple[str, ...] = ()
    coarse_builds: int = 0


@dataclasses.dataclass(frozen=True)
class _Estimate:
    """The quadratic model's minimum, and the signs that it does not hold there."""

    lowering: float
    stable: bool = True
    doubts: tuple[str, ...] = ()


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
    rest = built.fock - fock
    residual = pairs.of(rest)
    cheap, spent = 0.5 * float(pairs.dot(residual, residual)), 0
    found = _Estimate(cheap)
    if coupled and cheap > 0:
        found = _along_the_step(layer, pairs, fock, built, residual)
    elif cheap > NEGLIGIBLE:
        found = _Estimate(cheap, doubts=_bent(layer, fock, built, rest, -pairs.density(residual)))
    if coupled and found.doubts:
        end = coarse_lowering(layer, built, bands.filling.entropy_energy)
        spent = end.builds
        if end.lowering is not None:
            found = _Estimate(end.lowering)
    energy = float(built.energy)
    return CrystalCertificate(
        energy=energy,
        free_energy=energy - bands.filling.entropy_energy,
        energy_error_estimate=found.lowering,
        orbital_gradient_rms=gradient_rms(layer, bands, built.fock),
        coupled=coupled and found.stable,
        stable=found.stable,
        doubts=found.doubts,
        coarse_builds=spent,
    )


def _along_the_step(
    layer: CrystalLayer, pairs: Pairs, fock: BlochMatrix, built: CrystalBuild, residual: Tensor
) -> _Estimate:
    """The coupled estimate; the cheap one where the energy does not curve upwards."""
    rest = change = built.fock - fock
    if layer.data.mesh is not None:
        coulomb = layer.data.step_coulomb()
        change = rest + dielectric_step(layer, coulomb, built.fock, built.dm)
    along = pairs.of(change)
    step = -pairs.density(along)
    slope = float(pairs.dot(residual, along))
    response = layer.response(built.dm, step)
    own = weighted_trace(layer.data.weights, response, step)
    curvature = float(pairs.dot(along, along)) + float(own)
    squared = float(pairs.dot(residual, residual))
    if not curvature > 0:
        doubt = "the error estimate may be far too small: the energy curves downwards"
        return _Estimate(0.5 * squared, stable=False, doubts=(doubt,))
    if 0.5 * squared < NEGLIGIBLE:
        return _Estimate(0.5 * slope**2 / curvature)
    length = slope / curvature
    after = pairs.of(rest + length * (response - change))
    left = (float(pairs.dot(after, after)) / squared) ** 0.5
    doubts = _bent(layer, fock, built, length * change, length * step)
    if not left < LEFT:
        text = "the error estimate is a lower bound: its step leaves {:.0f} % of the residual"
        doubts = (text.format(100 * left), *doubts)
    return _Estimate(0.5 * slope**2 / curvature, doubts=doubts)


def _bent(
    layer: CrystalLayer,
    fock: BlochMatrix,
    built: CrystalBuild,
    change: BlochMatrix,
    linear: BlochMatrix,
) -> tuple[str, ...]:
    """A doubt where the density of H + ``change`` is not P + ``linear``: levels cross."""
    ovlp, weights = layer.data.ovlp, layer.data.weights
    apart = layer.density(fock + change) - built.dm - linear
    parts = [float(weighted_trace(weights, ovlp @ d @ ovlp, d)) for d in (apart, linear)]
    if parts[0] <= BENT**2 * parts[1]:
        return ()
    bent = (parts[0] / parts[1]) ** 0.5 if parts[1] > 0 else math.inf
    doubt = "the error estimate may be far too small: levels cross or a gap is small, the density"
    return (f"{doubt} after its step is {100 * bent:.0f} % off the linear one",)


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
