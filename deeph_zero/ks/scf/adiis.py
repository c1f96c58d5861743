"""Augmented Roothaan-Hall DIIS: a step downhill in energy, for far from convergence.

Over the remembered builds, P = Σ c_k P_k with c on the simplex minimises
E(P_n) + tr((P - P_n) F_n) + ½ tr((P - P_n)(F - F_n)), F = Σ c_k F_k, n the last build. Unlike the
commutator's extrapolation it stays inside what was seen and cannot prefer a higher state.

References:
    X. Hu and W. Yang, J. Chem. Phys. 132, 054109 (2010), eqs. 7-9.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

MAX_SPACE = 8
"""Builds looked at; all 2^n - 1 faces of the simplex are solved, exactly and at once."""


def simplex_minimum(
    linear: Float[Tensor, " n"], quadratic: Float[Tensor, "n n"]
) -> Float[Tensor, " n"]:
    """Global minimum of c·b + ½ cᵀ A c over c >= 0, Σ c = 1; A may be indefinite.

    The minimum is a stationary point of the face it lies in, and there are few faces: solve the
    equality-constrained problem on each, keep the feasible solutions, take the lowest.

    Args:
        linear: b.
        quadratic: A, symmetric, n <= 8.

    Returns:
        c.
    """
    n = linear.shape[0]
    faces = torch.arange(1, 2**n, device=linear.device)
    inside = (faces.unsqueeze(1) >> torch.arange(n, device=linear.device)) & 1
    inside = inside.to(linear.dtype)
    scale = torch.cat([linear.abs(), quadratic.abs().reshape(-1)]).max().clamp_min(1e-300)
    kkt = linear.new_zeros(len(faces), n + 1, n + 1)
    pairs = inside.unsqueeze(2) * inside.unsqueeze(1)
    kkt[:, :n, :n] = pairs * quadratic / scale + torch.diag_embed(1 - inside)
    kkt[:, :n, n] = kkt[:, n, :n] = inside
    rhs = torch.cat([-inside * linear / scale, inside.new_ones(len(faces), 1)], dim=1)
    solution, _ = torch.linalg.solve_ex(kkt, rhs)
    c = solution[:, :n] * inside
    feasible = torch.isfinite(c).all(1) & (c >= -1e-12).all(1) & ((c.sum(1) - 1).abs() < 1e-8)
    value = c @ linear + 0.5 * ((c @ quadratic) * c).sum(1)
    value = torch.where(feasible, value, float("inf"))
    best = c[value.argmin()].clamp_min(0)
    return best / best.sum()


def adiis_coefficients(dms: Sequence[Tensor], focks: Sequence[Tensor]) -> Float[Tensor, " n"]:
    """Coefficients of the densities (and Fock matrices) that minimise the ADIIS energy.

    Args:
        dms: Density matrices, the last build last; at most the last 8 are used.
        focks: Their Fock matrices, Eh.

    Returns:
        Non-negative coefficients that add up to 1, one per density given; 0 for older ones.
    """
    n = min(len(dms), MAX_SPACE)
    dm = torch.stack([d - dms[-1] for d in dms[-n:]]).reshape(n, -1)
    fock = torch.stack([f - focks[-1] for f in focks[-n:]]).reshape(n, -1)
    cross = dm @ fock.mT
    found = simplex_minimum(dm @ focks[-1].reshape(-1), 0.5 * (cross + cross.mT))
    return torch.cat([found.new_zeros(len(dms) - n), found])
