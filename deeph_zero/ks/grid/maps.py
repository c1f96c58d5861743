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
    rows = block.rows
    half = dm @ rows[0]
    out = half.new_empty(*dm.shape[:-2], NVAR[kind], rows.shape[2])
    for x in range(1 if kind == "LDA" else 4):
        out[..., x, :] = (half * rows[x]).sum(-2).mul_(2.0 if x else 1.0)
    if kind == "MGGA":
        out[..., 4, :] = 0.5 * sum(((dm @ rows[x]) * rows[x]).sum(-2) for x in range(1, 4))
    return out


def orbital_features(
    block: AOBlock, orbitals: LocalOrbitals, kind: XCKind
) -> Float[Tensor, "nvar npoints"]:
    """Density features for P = Σ_i c_i c_iᵀ: rho = Σ ψ_i², ∇rho = 2 Σ ψ_i ∇ψ_i, tau = ½ Σ |∇ψ_i|².

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
        return _ORBITAL_FEATURES[kind](block.rows, orbitals)[0]
    return _recorded_features(kind)(block.rows, orbitals)[0]


def _lda_features(rows: Tensor, orbitals: Tensor) -> tuple[Tensor]:
    psi = orbitals.mT @ rows[0]
    return (psi.square_().sum(0, keepdim=True),)


def _gga_features(rows: Tensor, orbitals: Tensor) -> tuple[Tensor]:
    psi = orbitals.mT @ rows
    out = (psi[0] * psi).sum(1)
    out[1:].mul_(2.0)
    return (out,)


def _mgga_features(rows: Tensor, orbitals: Tensor) -> tuple[Tensor]:
    psi = orbitals.mT @ rows
    out = (psi[0] * psi).sum(1)
    out[1:].mul_(2.0)
    tau = psi[1:].square_().sum((0, 1)).mul_(0.5)
    return (torch.cat([out, tau.unsqueeze(0)]),)


_ORBITAL_FEATURES: dict[XCKind, Operations] = {
    "LDA": _lda_features,
    "GGA": _gga_features,
    "MGGA": _mgga_features,
}


def _gga_features_by_component(rows: Tensor, orbitals: Tensor) -> tuple[Tensor]:
    columns = orbitals.mT
    psi = columns @ rows[0]
    slopes = [(columns @ rows[x]).mul_(psi).sum(0).mul_(2.0) for x in range(1, 4)]
    return (torch.stack([psi.square().sum(0), *slopes]),)


def _mgga_features_by_component(rows: Tensor, orbitals: Tensor) -> tuple[Tensor]:
    columns = orbitals.mT
    psi = columns @ rows[0]
    out, tau = [psi.square().sum(0)], torch.zeros_like(rows[0, 0])
    for x in range(1, 4):
        slope = columns @ rows[x]
        out.append((psi * slope).sum(0).mul_(2.0))
        tau.add_(slope.square_().sum(0))
    return (torch.stack([*out, tau.mul_(0.5)]),)


_FEATURES_ON_CPU: dict[XCKind, Operations] = {
    "LDA": _lda_features,
    "GGA": _gga_features_by_component,
    "MGGA": _mgga_features_by_component,
}
"""One component after the other: what is made of one stays in the cache until it is summed."""


@lru_cache(maxsize=3)
def _recorded_features(kind: XCKind) -> Operations:
    return recorded(_FEATURES_ON_CPU[kind], (1 if kind == "LDA" else 4, 3, 16), (3, 2))


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
    rows = block.rows
    matrix = _potential_map(kind, rows)
    out = stacked([matrix(rows, one)[0] for one in flat])
    return out.reshape(*lead, *out.shape[-2:])


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """``torch.stack``, but a single part is not copied."""
    return parts[0].unsqueeze(0) if len(parts) == 1 else torch.stack(list(parts))


def _potential_map(kind: XCKind, rows: Tensor) -> Operations:
    """How the matrix is made: every second product is saved where there are many AOs."""
    on_cpu = rows.device.type == "cpu"
    if kind == "MGGA" and (rows.shape[1] > _WHOLE or not on_cpu):
        return _mgga_potential_by_panels
    return _recorded_potential(kind) if on_cpu else _POTENTIAL[kind]


def _half_potential(rows: Tensor, potential: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the matrix of density and gradient (not symmetric), and room for a product."""
    mix = (0.5 * potential[0]) * rows[0]
    for x in range(1, 4):
        mix.addcmul_(potential[x], rows[x])
    return rows[0] @ mix.mT, mix


def _lda_potential(rows: Tensor, potential: Tensor) -> tuple[Tensor]:
    half = rows[0] @ ((0.5 * potential[0]) * rows[0]).mT
    return (half + half.mT,)


def _gga_potential(rows: Tensor, potential: Tensor) -> tuple[Tensor]:
    half, _ = _half_potential(rows, potential)
    return (half + half.mT,)


def _mgga_potential(rows: Tensor, potential: Tensor) -> tuple[Tensor]:
    half, room = _half_potential(rows, potential)
    weight = 0.25 * potential[4]
    for x in range(1, 4):
        half.addmm_(rows[x], torch.mul(weight, rows[x], out=room).mT)
    return (half + half.mT,)


def _mgga_potential_by_panels(rows: Tensor, potential: Tensor) -> tuple[Tensor]:
    half, room = _half_potential(rows, potential)
    weight = 0.25 * potential[4]
    for x in range(1, 4):
        _add_lower_(half, rows[x], torch.mul(weight, rows[x], out=room))
    return (half + half.mT,)


_POTENTIAL: dict[XCKind, Operations] = {
    "LDA": _lda_potential,
    "GGA": _gga_potential,
    "MGGA": _mgga_potential,
}


@lru_cache(maxsize=3)
def _recorded_potential(kind: XCKind) -> Operations:
    return recorded(_POTENTIAL[kind], (1 if kind == "LDA" else 4, 3, 16), (NVAR[kind], 16))


def _add_lower_(
    half: Float[Tensor, "nloc nloc"], left: Float[Tensor, "nloc k"], right: Float[Tensor, "nloc k"]
) -> None:
    """Add to ``half`` what makes half + halfᵀ grow by 2 left rightᵀ, itself symmetric.

    Diagonal panels are added as they are and those below them twice, so that the panels above need
    no product.
    """
    for start, stop in panels(half.shape[0]):
        some = left[start:stop]
        half[start:stop, start:stop].addmm_(some, right[start:stop].mT)
        if start:
            half[start:stop, :start].addmm_(some, right[:start].mT, alpha=2.0)


def panels(size: int) -> Sequence[tuple[int, int]]:
    """``size`` columns in equal panels of at most about ``_PANEL``: (start, stop) pairs."""
    count = max(1, round(size / _PANEL))
    edges = [round(i * size / count) for i in range(count + 1)]
    return list(pairwise(edges))
