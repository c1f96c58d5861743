"""What is left of a self-consistency step, solved with the Coulomb response instead of a build.

Near self-consistency P' = P(F[P]) misses the fixed point by the response of F to P' - P. Most of
that response is the Coulomb matrix, which costs a small part of a Fock build: no grid is involved.
Exchange and correlation are given as fixed parts of it, one for the density, one for the spin.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deeph_zero.ks.density import divided_difference
from deeph_zero.ks.layer import KohnShamLayer
from deeph_zero.ks.linalg.conjugate_gradients import Vectors, steps
from deeph_zero.ks.protocol import TwoElectron
from deeph_zero.types import SpinMatrix

COULOMB_PART = 0.75
"""Part of the Coulomb response that exchange and correlation leave, of total densities.

Distorted water, ethanol and uracil (PBE, PBE0, B3LYP, Hartree-Fock) and NO2: 0.65 to 0.85 give
targets of about the same error; without exchange and correlation (1.0) it is twice as large.
"""

SPIN_PART = 0.1
"""Exchange and correlation's response to a spin density, as a part of its Coulomb matrix: it pulls
the spins apart. Distorted CH3 and NO2 (PBE, B3LYP): targets two to four times closer than without;
from 0.15 on, NO2's equations are no longer definite."""

TOLERANCE = 1e-2
"""Relative residual of solved linear equations; the kernel is no more accurate than that."""

STALLED = 0.7
"""Two builds in a row whose commutator is not below so much of the one before are a stall: there
(ions with near-degenerate levels were seen) DIIS without the step does better."""

MAX_PRODUCTS = 20
"""Coulomb matrices per step at most; molecules take two to four."""


def stops_helping(norms: Sequence[float]) -> bool:
    """Whether the last builds say that DIIS should go on without the step.

    Args:
        norms: Norms of the commutators of the builds so far, oldest first; may be zero.

    Returns:
        True after two stalled builds in a row.
    """
    last = norms[-3:]
    pairs = zip(last[1:], last[:-1], strict=True)
    return len(last) == 3 and all(later > STALLED * before for later, before in pairs)


@torch.no_grad()
def dielectric_step(
    layer: KohnShamLayer, fock: SpinMatrix, dm: SpinMatrix, degeneracy_tol: float | None = None
) -> SpinMatrix:
    """Change of a Fock matrix on the way to self-consistency, from the Coulomb response alone.

    With χ = dP/dF at F = F[P] and a kernel K, the change D of the density obeys
    D = P(F) - P + χ K D, and F moves by K D. K D ≈ c J[Dα + Dβ] ∓ s J[Dα - Dβ]. -χ is positive and
    diagonal in pairs of orbitals of F, so that the equations for √w-scaled pairs,
    (1 + √w K √w) y = -√w K (P(F) - P), are symmetric, and with s = 0 positive definite whatever the
    gap is. Where a spin about to flip makes them indefinite, s is 0.

    Args:
        layer: The molecule.
        fock: F of ``dm``, or the same linear combination of such matrices, Eh.
        dm: The density matrix; need not be idempotent.
        degeneracy_tol: Frontier levels closer than this (Eh) are filled evenly; None takes the
            layer's.

    Returns:
        K D, to be added to ``fock``, Eh.

    Raises:
        ComputationError: If ``fock`` is not finite.

    References:
        K.-M. Ho, J. Ihm, J. D. Joannopoulos, Phys. Rev. B 25, 4260 (1982), eqs. 4-8;
        P.-M. Anglade, X. Gonze, Phys. Rev. B 78, 045126 (2008).

    Cost:
        Three or four Coulomb matrices, of each spin, and one diagonalisation; not a Fock build.
    """
    orbitals = layer.orbitals(fock, degeneracy_tol)
    c, occ = orbitals.mo_coeff, orbitals.mo_occ
    weights = divided_difference(orbitals.mo_energy, occ, layer.gap_floor)
    root = (-weights).clamp_min(0.0).sqrt()

    def density(pairs: Tensor) -> SpinMatrix:
        return c @ (root * pairs) @ c.mH

    def pairs(potential: SpinMatrix) -> Tensor:
        return root * (c.mH @ potential @ c)

    first = (c * occ.unsqueeze(-2)) @ c.mH - dm
    for spin_part in (SPIN_PART, 0.0):
        kernel = functools.partial(kernel_of, layer.data.coulomb, spin_part)
        start = kernel(first)
        more = _response(lambda y, kernel=kernel: kernel(density(y)), pairs, -pairs(start))
        if more is not None:
            return start + more
    return torch.zeros_like(fock)


def kernel_of(operator: TwoElectron, spin_part: float, change: SpinMatrix) -> SpinMatrix:
    """K of a change of the density, of one molecule or of a stack.

    Args:
        operator: 1/r12.
        spin_part: s.
        change: D.

    Returns:
        K D, Eh.
    """
    potentials = operator.coulomb(change)
    if potentials.shape[-3] == 1:
        return COULOMB_PART * potentials
    up, down = potentials.unbind(-3)
    total, spin = COULOMB_PART * (up + down), spin_part * (up - down)
    return torch.stack([total - spin, total + spin], dim=-3)


def _response(
    potential: Callable[[Tensor], SpinMatrix], pairs: Callable[[SpinMatrix], Tensor], rhs: Tensor
) -> SpinMatrix | None:
    """K of the solution y of (1 + √w K √w) y = ``rhs``, by conjugate gradients.

    The potentials of the directions add up to the solution's, which costs no product of its own.

    Args:
        potential: √w-scaled pairs to K of their density.
        pairs: A potential to √w-scaled pairs.
        rhs: Right-hand side, in pairs.

    Returns:
        The potential, Eh, to :data:`TOLERANCE`; None if the equations are not definite.
    """
    moved: list[SpinMatrix] = []

    def product(direction: Vectors) -> Vectors:
        y = direction.reshape(rhs.shape)
        moved.append(potential(y))
        return (y + pairs(moved[-1])).reshape(1, -1)

    flat = rhs.reshape(1, -1)
    total: SpinMatrix | None = None
    iteration = steps(product, flat, TOLERANCE * flat.norm(dim=-1))
    for _, step in zip(range(MAX_PRODUCTS), iteration, strict=False):
        if bool(step.curvature <= 0):
            return None
        part = step.length * moved.pop()
        total = part if total is None else total + part
    return potential(rhs) if total is None else total
