"""Density variables on the grid from a density matrix, and the adjoint map back to a matrix."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks.protocol import NVAR, AOBlock, XCKind
from deeph_zero.types import AOMatrix

LocalMatrix = Float[Tensor, "*spin nloc nloc"]
LocalOrbitals = Float[Tensor, "nloc width"]

_PANEL = 48
"""Columns per panel of a symmetric product, of which only one triangle is multiplied."""


def total_density(matrix: AOMatrix) -> Float[Tensor, "nao nao"]:
    """Sum over the spin axis, where there is one."""
    return matrix.sum(0) if matrix.ndim == 3 else matrix


def restrict(matrix: AOMatrix, block: AOBlock) -> LocalMatrix:
    """Rows and columns of the AOs that are significant on a block."""
    if block.index is None:
        return matrix
    return matrix[..., block.index.unsqueeze(1), block.index]


def density_features(
    block: AOBlock, dm: LocalMatrix, kind: XCKind
) -> Float[Tensor, "*spin nvar npoints"]:
    """rho, its gradient and tau of a symmetric density matrix, by :data:`NVAR` of ``kind``.

    rho = Σ_mn P_mn φ_m φ_n; ∇rho = 2 Σ_mn P_mn φ_m ∇φ_n; tau = ½ Σ_mn P_mn ∇φ_m·∇φ_n.

    Args:
        block: AO values on the points.
        dm: Density matrix restricted to the block's AOs.
        kind: Which variables to make.

    Returns:
        Atomic units; linear in ``dm``.
    """
    ao = block.ao
    half = ao[0] @ dm
    out = half.new_empty(*dm.shape[:-2], NVAR[kind], ao.shape[1])
    out[..., 0, :] = (half * ao[0]).sum(-1)
    if kind != "LDA":
        for x in range(1, 4):
            out[..., x, :] = 2.0 * (half * ao[x]).sum(-1)
    if kind == "MGGA":
        out[..., 4, :] = 0.5 * sum(((ao[x] @ dm) * ao[x]).sum(-1) for x in range(1, 4))
    return out


def orbital_features(
    block: AOBlock, orbitals: LocalOrbitals, kind: XCKind
) -> Float[Tensor, "nvar npoints"]:
    """The same for P = Σ_i c_i c_iᵀ: rho = Σ ψ_i², ∇rho = 2 Σ ψ_i ∇ψ_i, tau = ½ Σ |∇ψ_i|².

    Args:
        block: AO values on the points.
        orbitals: Columns c restricted to the block's AOs.
        kind: Which variables to make.

    Returns:
        Atomic units.

    Cost:
        Matrix products with as many columns as there are orbitals instead of AOs.
    """
    ao = block.ao
    npoints = ao.shape[1]
    out = ao.new_empty(NVAR[kind], npoints)
    # orbitals first: narrow products are fastest with the points as the long last axis
    if kind == "MGGA":
        psi = (orbitals.mT @ ao.reshape(-1, ao.shape[2]).mT).reshape(-1, 4, npoints)
        for x in range(4):
            torch.sum(psi[:, 0] * psi[:, x], 0, out=out[x])
        torch.sum(psi[:, 1:].square_().reshape(-1, npoints), 0, out=out[4])
        out[4] *= 0.5
    else:
        psi = orbitals.mT @ ao[0].mT
        torch.sum(psi.square(), 0, out=out[0])
        if kind == "GGA":
            half = psi.mT @ orbitals.mT
            for x in range(1, 4):
                torch.sum(half * ao[x], -1, out=out[x])
    out[1:4] *= 2.0
    return out


def potential_matrix(
    block: AOBlock, potential: Float[Tensor, "*spin nvar npoints"], kind: XCKind
) -> LocalMatrix:
    """Adjoint of :func:`density_features`: the symmetric matrix dE/dP for E with dE/dfeatures.

    Args:
        block: AO values on the points.
        potential: Derivative of the energy with respect to each variable, quadrature weights
            included.
        kind: Which variables ``potential`` has.

    Returns:
        Symmetric matrix over the block's AOs, Eh.
    """
    lead = potential.shape[:-2]
    flat = potential.reshape(-1, *potential.shape[-2:])
    out = torch.stack([_potential_one(block.ao, one, kind) for one in flat])
    return out.reshape(*lead, *out.shape[-2:])


def _potential_one(
    ao: Float[Tensor, "ncomp npoints nloc"], potential: Float[Tensor, "nvar npoints"], kind: XCKind
) -> Float[Tensor, "nloc nloc"]:
    v = potential.unsqueeze(-1)
    mix = (0.5 * v[0]) * ao[0]
    if kind != "LDA":
        for x in range(1, 4):
            mix.addcmul_(v[x], ao[x])
    half = ao[0].mT @ mix
    if kind == "MGGA":
        weight = 0.25 * v[4]
        for x in range(1, 4):
            _add_lower_(half, ao[x], torch.mul(weight, ao[x], out=mix))
    return half + half.mT


def _add_lower_(
    half: Float[Tensor, "nloc nloc"], left: Float[Tensor, "k nloc"], right: Float[Tensor, "k nloc"]
) -> None:
    """Add to ``half`` what makes half + halfᵀ grow by 2 leftᵀ right, itself symmetric.

    Diagonal panels are added as they are and those below them twice, so that the panels above need
    no product.
    """
    for start, stop in panels(half.shape[0]):
        rows = left[:, start:stop].mT
        half[start:stop, start:stop].addmm_(rows, right[:, start:stop])
        if start:
            half[start:stop, :start].addmm_(rows, right[:, :start], alpha=2.0)


def panels(size: int) -> Sequence[tuple[int, int]]:
    """``size`` columns in equal panels of at most about ``_PANEL``: (start, stop) pairs."""
    count = max(1, round(size / _PANEL))
    edges = [round(i * size / count) for i in range(count + 1)]
    return list(pairwise(edges))
