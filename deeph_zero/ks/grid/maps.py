"""Density variables on the grid from a density matrix, and the adjoint map back to a matrix."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ks.parallel.recording import Operations, recorded
from deeph_zero.ks.protocol import NVAR, AOBlock, XCKind
from deeph_zero.types import AOMatrix

LocalMatrix = Float[Tensor, "*spin nloc nloc"]
LocalOrbitals = Float[Tensor, "nloc width"]

_PANEL = 48
"""Columns per panel of a symmetric product, of which only one triangle is multiplied."""
_WHOLE = 160
"""Columns up to which the whole product, in one call, is as fast."""


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
    if block.ao.device.type != "cpu":
        return _ORBITAL_FEATURES[kind](block.ao, orbitals)[0]
    return _recorded_features(kind)(block.ao, orbitals)[0]


def _lda_features(ao: Tensor, orbitals: Tensor) -> tuple[Tensor]:
    # orbitals first: narrow products are fastest with the points as the long last axis
    psi = orbitals.mT @ ao[0].mT
    return (psi.square_().sum(0, keepdim=True),)


def _gga_features(ao: Tensor, orbitals: Tensor) -> tuple[Tensor]:
    psi = orbitals.mT @ ao[0].mT
    half = (psi.mT @ orbitals.mT).mul_(2.0)
    gradient = [(half * ao[x]).sum(-1) for x in range(1, 4)]
    return (torch.stack([psi.square_().sum(0), *gradient]),)


def _mgga_features(ao: Tensor, orbitals: Tensor) -> tuple[Tensor]:
    npoints = ao.shape[1]
    psi = (orbitals.mT @ ao.reshape(-1, ao.shape[2]).mT).reshape(-1, 4, npoints)
    rows = [(psi[:, 0] * psi[:, x]).sum(0).mul_(factor) for x, factor in enumerate((1, 2, 2, 2))]
    tau = psi[:, 1:].square_().reshape(-1, npoints).sum(0).mul_(0.5)
    return (torch.stack([*rows, tau]),)


_ORBITAL_FEATURES: dict[XCKind, Operations] = {
    "LDA": _lda_features,
    "GGA": _gga_features,
    "MGGA": _mgga_features,
}


@lru_cache(maxsize=3)
def _recorded_features(kind: XCKind) -> Operations:
    return recorded(_ORBITAL_FEATURES[kind], (1 if kind == "LDA" else 4, 16, 3), (3, 2))


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
    matrix = _potential_map(kind, block.ao)
    out = torch.stack([matrix(block.ao, one)[0] for one in flat])
    return out.reshape(*lead, *out.shape[-2:])


def _potential_map(kind: XCKind, ao: Tensor) -> Operations:
    """How the matrix is made: every second product is saved where there are many AOs."""
    if kind == "MGGA" and (ao.shape[2] > _WHOLE or ao.device.type != "cpu"):
        return _mgga_potential_by_panels
    return _POTENTIAL[kind] if ao.device.type != "cpu" else _recorded_potential(kind)


def _half_potential(ao: Tensor, potential: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the matrix of density and gradient (not symmetric), and room for a product."""
    v = potential.unsqueeze(-1)
    mix = (0.5 * v[0]) * ao[0]
    for x in range(1, 4):
        mix.addcmul_(v[x], ao[x])
    return ao[0].mT @ mix, mix


def _lda_potential(ao: Tensor, potential: Tensor) -> tuple[Tensor]:
    half = ao[0].mT @ ((0.5 * potential[0]).unsqueeze(-1) * ao[0])
    return (half + half.mT,)


def _gga_potential(ao: Tensor, potential: Tensor) -> tuple[Tensor]:
    half, _ = _half_potential(ao, potential)
    return (half + half.mT,)


def _mgga_potential(ao: Tensor, potential: Tensor) -> tuple[Tensor]:
    half, room = _half_potential(ao, potential)
    weight = (0.25 * potential[4]).unsqueeze(-1)
    for x in range(1, 4):
        half.addmm_(ao[x].mT, torch.mul(weight, ao[x], out=room))
    return (half + half.mT,)


def _mgga_potential_by_panels(ao: Tensor, potential: Tensor) -> tuple[Tensor]:
    half, room = _half_potential(ao, potential)
    weight = (0.25 * potential[4]).unsqueeze(-1)
    for x in range(1, 4):
        _add_lower_(half, ao[x], torch.mul(weight, ao[x], out=room))
    return (half + half.mT,)


_POTENTIAL: dict[XCKind, Operations] = {
    "LDA": _lda_potential,
    "GGA": _gga_potential,
    "MGGA": _mgga_potential,
}


@lru_cache(maxsize=3)
def _recorded_potential(kind: XCKind) -> Operations:
    return recorded(_POTENTIAL[kind], (1 if kind == "LDA" else 4, 16, 3), (NVAR[kind], 16))


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
