"""From density matrices to the density on a uniform grid, and from potentials back to matrices.

With ρ(r) = Σ_k w_k Re Σ_ij φ_i(r) P_ij φ_j(r)* and P = Σ_p s_p c_p c_p† the passes over the grid
need only the columns c_p, of which there are few.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor

from deeph_zero.ks.periodic.types import BlochMatrix, KWeights, MeshRows

NEGLIGIBLE = 1e-15
"""Columns of a density matrix below this part of the largest are left out."""

COMPONENTS = {1: 1, 4: 4, 5: 4}
"""AO components (value, gradient) that so many density variables need."""


@dataclasses.dataclass(frozen=True)
class KGroup:
    """AO values of several k-points with one number type.

    Attributes:
        index: Which of the k-points.
        ao: [nk of the group, component, nao, npoints]; components are the value and its three
            derivatives, or the value alone. Real where -k is k.
    """

    index: Int[Tensor, " group"]
    ao: Inexact[Tensor, "group ncomp nao npoints"]


@dataclasses.dataclass(frozen=True)
class BlochBlock:
    """AO values on one block of the grid's points.

    Attributes:
        points: Which points, consecutive ones.
        groups: All k-points, each in one group.
    """

    points: slice
    groups: tuple[KGroup, ...]


@runtime_checkable
class BlochGrid(Protocol):
    """AO values at k-points on a uniform grid, in blocks that are kept or made again."""

    nao: int
    nk: int
    ngrids: int
    n_blocks: int

    def block(self, b: int) -> BlochBlock:
        """Block ``b``, 0 <= b < n_blocks."""
        ...


@dataclasses.dataclass(frozen=True)
class Columns:
    """P_k = Σ_p s_p c_p c_p†, for every spin and k the same number of columns.

    Attributes:
        c: [nspin, nk, nao, ncol].
        sign: s_p: 1, -1, or 0.
    """

    c: Inexact[Tensor, "nspin nk nao ncol"]
    sign: Float[Tensor, "nspin nk ncol"]


def columns(dm: BlochMatrix) -> Columns:
    """Factor Hermitian matrices into as few columns as they need.

    Args:
        dm: Density matrices, or directions of them, which need not be positive.

    Returns:
        The columns; they reproduce ``dm`` to rounding.
    """
    values, vectors = torch.linalg.eigh(dm)
    size = values.abs()
    largest = size.amax()
    count = max(int((size > NEGLIGIBLE * largest).sum(-1).amax()), 1)
    order = size.argsort(-1, descending=True)[..., :count]
    size = size.gather(-1, order)
    kept = vectors.gather(-1, order.unsqueeze(-2).expand(*vectors.shape[:-1], count))
    return Columns(kept * size.sqrt().unsqueeze(-2), values.gather(-1, order).sign())


def density_rows(grid: BlochGrid, weights: KWeights, dm: BlochMatrix, nvar: int) -> MeshRows:
    """ρ, its gradient and τ on the grid.

    Args:
        grid: AO values.
        weights: w_k.
        dm: Hermitian matrices.
        nvar: 1, 4 (with the gradient) or 5 (with τ = ½ Σ |∇ψ|²).

    Returns:
        The rows, in atomic units.
    """
    factors = columns(dm)
    out = torch.zeros(
        dm.shape[0], nvar, grid.ngrids, dtype=factors.sign.dtype, device=factors.sign.device
    )
    for b in range(grid.n_blocks):
        block = grid.block(b)
        for group in block.groups:
            _add_density(out[..., block.points], group, factors, weights)
    return out


def _add_density(out: Tensor, group: KGroup, factors: Columns, weights: KWeights) -> None:
    """Σ over the k-points of a group, into ``out`` [nspin, nvar, npoints]."""
    nvar = out.shape[1]
    share = factors.sign[:, group.index] * weights[group.index].unsqueeze(-1)
    for s in range(out.shape[0]):
        for k, position in enumerate(group.index.tolist()):
            ao = group.ao[k]
            c = factors.c[s, position]
            if not ao.is_complex() and c.is_complex():
                # real AOs see only the real part of P, twice as many real columns
                c, part = torch.cat([c.real, c.imag], 1), share[s, k].repeat(2)
            else:
                part = share[s, k]
            psi = c.mT.to(ao.dtype) @ ao[: COMPONENTS[nvar]]
            _add_orbitals(out[s], psi, part)


def _add_orbitals(out: Tensor, psi: Tensor, share: Tensor) -> None:
    """Rows of orbitals ``psi`` [component, ncol, npoints] with their shares."""
    parts = torch.view_as_real(psi) if psi.is_complex() else psi.unsqueeze(-1)
    scaled = parts[0] * share.reshape(-1, 1, 1)
    out[0] += (scaled * parts[0]).sum((0, -1))
    for x in range(1, len(psi)):
        out[x].add_((scaled * parts[x]).sum((0, -1)), alpha=2.0)
    if len(out) == 5:
        tau = (parts[1:].square().sum((0, -1)) * share.unsqueeze(-1)).sum(0)
        out[4].add_(tau, alpha=0.5)


def potential_matrix(grid: BlochGrid, rows: MeshRows, dtype: torch.dtype) -> BlochMatrix:
    """Matrices of potentials: the derivative of Σ_points rows · density with respect to P.

    Args:
        grid: AO values.
        rows: dE/d(row) at every point, quadrature weights included.
        dtype: Type of the matrices.

    Returns:
        M with Σ rows · dρ = Σ_k w_k Re tr(M_k dP_k), Hermitian.
    """
    shape = (rows.shape[0], grid.nk, grid.nao, grid.nao)
    half = torch.zeros(shape, dtype=dtype, device=rows.device)
    for b in range(grid.n_blocks):
        block = grid.block(b)
        for group in block.groups:
            _add_matrices(half, group, rows[..., block.points])
    return half + half.mH


def _add_matrices(half: Tensor, group: KGroup, rows: Tensor) -> None:
    """Half of the matrices: the other half is their adjoint."""
    nvar = rows.shape[1]
    for s in range(rows.shape[0]):
        for k, position in enumerate(group.index.tolist()):
            ao = group.ao[k]
            mixed = ao[0] * (0.5 * rows[s, 0])
            for x in range(1, min(nvar, 4)):
                mixed += ao[x] * rows[s, x]
            half[s, position] += ao[0].conj() @ mixed.mT
            if nvar == 5:
                scale = 0.25 * rows[s, 4]
                for x in range(1, 4):
                    half[s, position] += ao[x].conj() @ (ao[x] * scale).mT
