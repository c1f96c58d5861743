"""Array types of crystals.

``nspin`` is 1 (closed shell, total density) or 2 (alpha, beta); ``nk`` counts k-points, whose
weights ``w_k`` add up to 1. Where only one of k and -k is kept, its weight counts both, and what
is summed over k is the real part. Matrices are complex128, or float64 where Γ is the only k.
"""

from typing import TypeAlias

from jaxtyping import Float, Inexact
from torch import Tensor

BlochMatrix: TypeAlias = Inexact[Tensor, "nspin nk nao nao"]
"""Density or Fock matrix at every k, Hermitian; AO phases are the lattice's (no atomic phases)."""

BlochOperator: TypeAlias = Inexact[Tensor, "nk nao nao"]
"""A Hermitian matrix at every k without a spin axis: overlap, kinetic energy, ..."""

KWeights: TypeAlias = Float[Tensor, " nk"]

BandEnergies: TypeAlias = Float[Tensor, "nspin nk nmo"]
"""Eh; far above all orbitals where a linearly dependent combination was left out at that k."""

MeshRows: TypeAlias = Float[Tensor, "nspin nvar ngrids"]
"""Density variables (rho; its gradient; tau), or a potential for each, on the uniform grid."""

PotentialRows: TypeAlias = Float[Tensor, "nspin nown ngrids"]
"""Potentials of the first ``nown`` density variables."""

MeshScalar: TypeAlias = Float[Tensor, " ngrids"]


def without_potential(weights: KWeights, change: Tensor, ovlp: Tensor) -> Tensor:
    """ΔH - μ S with the μ that leaves least: a crystal's average potential is a convention.

    Args:
        weights: w_k, [nk].
        change: ΔH, [nspin, nk, n, n], Eh.
        ovlp: S, [nk, n, n].

    Returns:
        The rest; μ is one for both spins.
    """
    shift = weighted_trace(weights, change, ovlp) / weighted_trace(weights, ovlp, ovlp)
    return change - shift / len(change) * ovlp


def weighted_trace(weights: KWeights, a: Tensor, b: Tensor) -> Float[Tensor, ""]:
    """Σ_k w_k Re tr(A_k B_k), spins added up; the inner product of Hermitian matrices.

    Args:
        weights: w_k, [nk].
        a: [nspin, nk, n, n] or [nk, n, n].
        b: Matrices of the shape of ``a``.

    Returns:
        A real number.
    """
    traces = (a * b.mT).sum((-1, -2))
    traces = traces.real if traces.is_complex() else traces
    return (traces * weights).sum()
