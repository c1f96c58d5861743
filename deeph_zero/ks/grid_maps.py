"""Density variables on the grid from a density matrix, and the adjoint map back to a matrix."""

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks.protocol import NVAR, AOBlock, XCKind

LocalMatrix = Float[Tensor, "*spin nloc nloc"]


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
    ao = block.ao
    v = potential.unsqueeze(-1)
    mix = (0.5 * v[..., 0, :, :]) * ao[0]
    if kind != "LDA":
        for x in range(1, 4):
            mix = torch.addcmul(mix, v[..., x, :, :], ao[x])
    half = ao[0].mT @ mix
    out = half + half.mT
    if kind == "MGGA":
        v_tau = 0.5 * v[..., 4, :, :]
        for x in range(1, 4):
            out = out + ao[x].mT @ (v_tau * ao[x])
    return out
