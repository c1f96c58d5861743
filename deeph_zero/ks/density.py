"""Density matrix of a Fock matrix, with first and second derivatives safe under degeneracy.

In an orthonormal basis P = f(F) is a matrix function with fixed occupations f_p. Its derivatives
are those of Daleckii and Krein: only divided differences of f appear, never eigenvectors'
derivatives, so degenerate levels of equal occupation cost nothing.
"""

from typing import Any

import torch
from jaxtyping import Float, Inexact
from torch import Tensor
from torch.autograd import Function

Square = Inexact[Tensor, "*spin nmo nmo"]
Levels = Float[Tensor, "*spin nmo"]

GAP_FLOOR = 1e-6
"""Smallest |energy difference| (Eh) used in a denominator between unequal occupations."""


def divided_difference(energy: Levels, occ: Levels, gap_floor: float = GAP_FLOOR) -> Square:
    """w_pq = (f_p - f_q) / (e_p - e_q), exactly zero between equal occupations.

    Args:
        energy: Orbital energies e, Eh.
        occ: Occupations f.
        gap_floor: Differences between unequal occupations are kept at least this large.

    Returns:
        w, symmetric, 1/Eh.

    References:
        Yu. L. Daleckii and S. G. Krein, AMS Transl. 47, 1 (1965); design: density from Fock.
    """
    df = occ.unsqueeze(-1) - occ.unsqueeze(-2)
    de = energy.unsqueeze(-1) - energy.unsqueeze(-2)
    # Aufbau: the more occupied level is the lower one, so the sign of de is that of -df.
    floored = -torch.sign(df) * de.abs().clamp_min(gap_floor)
    return df / floored.masked_fill(df == 0, 1.0)


def _second_difference_contraction(
    energy: Float[Tensor, " nmo"],
    occ: Float[Tensor, " nmo"],
    a: Inexact[Tensor, "nmo nmo"],
    b: Inexact[Tensor, "nmo nmo"],
    gap_floor: float,
) -> Inexact[Tensor, "nmo nmo"]:
    """M_pq = Σ_r f[p,r,q] (a_pr b_rq + b_pr a_rq), f[p,r,q] the second divided difference.

    f[p,r,q] is symmetric in its arguments. If all three occupations agree it vanishes; otherwise
    some pair of arguments has different occupations, and (f[x,y] - f[y,z]) / (e_x - e_z) with
    f_x != f_z only divides by that pair's energy difference.
    """
    w = divided_difference(energy, occ, gap_floor)
    df = occ.unsqueeze(-1) - occ.unsqueeze(-2)
    de = energy.unsqueeze(-1) - energy.unsqueeze(-2)
    inv = torch.where(df == 0, 0.0, 1.0 / torch.where(df == 0, 1.0, de))
    unequal = df != 0
    out = torch.empty_like(a)
    for p in range(energy.shape[0]):
        # axes [r, q]; three ways of writing f[p,r,q], each valid where its end points differ
        by_pq = (w[p].unsqueeze(1) - w) * inv[p].unsqueeze(0)
        by_pr = (w[p].unsqueeze(0) - w) * inv[p].unsqueeze(1)
        by_rq = (w[p].unsqueeze(1) - w[p].unsqueeze(0)) * inv
        second = torch.where(
            unequal[p].unsqueeze(0),
            by_pq,
            torch.where(unequal[p].unsqueeze(1), by_pr, torch.where(unequal, by_rq, 0.0)),
        )
        out[p] = ((a[p].unsqueeze(1) * b + b[p].unsqueeze(1) * a) * second).sum(0)
    return out


class _FockDerivative(Function):
    """Y = U (w ∘ (U† G U)) U†: the derivative of P along G, linear and self-adjoint in G."""

    @staticmethod
    def forward(ctx: Any, fock: Square, cotangent: Square, spectrum: tuple) -> Square:
        energy, vectors, occ, gap_floor = spectrum
        ctx.spectrum = spectrum
        ctx.save_for_backward(fock, cotangent)
        w = divided_difference(energy, occ, gap_floor)
        return vectors @ (w * (vectors.mH @ cotangent @ vectors)) @ vectors.mH

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Square) -> tuple[Tensor | None, Tensor | None, None]:
        (grad,) = grads
        _, cotangent = ctx.saved_tensors
        energy, vectors, occ, gap_floor = ctx.spectrum
        grad = 0.5 * (grad + grad.mH)
        b = vectors.mH @ grad @ vectors
        grad_fock = grad_cot = None
        if ctx.needs_input_grad[1]:
            w = divided_difference(energy, occ, gap_floor)
            grad_cot = vectors @ (w * b) @ vectors.mH
        if ctx.needs_input_grad[0]:
            a = vectors.mH @ cotangent @ vectors
            n = a.shape[-1]
            parts = [
                _second_difference_contraction(*one, gap_floor)
                for one in zip(
                    energy.reshape(-1, n),
                    occ.reshape(-1, n),
                    a.reshape(-1, n, n),
                    b.reshape(-1, n, n),
                    strict=True,
                )
            ]
            grad_fock = vectors @ torch.stack(parts).reshape(a.shape) @ vectors.mH
        return grad_fock, grad_cot, None


class _Density(Function):
    """P = U f U† of a Hermitian matrix, given its spectrum and occupations."""

    @staticmethod
    def forward(ctx: Any, fock: Square, spectrum: tuple) -> Square:
        _, vectors, occ, _ = spectrum
        ctx.spectrum = spectrum
        ctx.save_for_backward(fock)
        return (vectors * occ.unsqueeze(-2)) @ vectors.mH

    @staticmethod
    def backward(ctx: Any, *grads: Square) -> tuple[Tensor, None]:
        (grad,) = grads
        (fock,) = ctx.saved_tensors
        sym = 0.5 * (grad + grad.mH)
        return _FockDerivative.apply(fock, sym, ctx.spectrum), None  # pyright: ignore


def density_matrix(
    fock: Square, energy: Levels, vectors: Square, occ: Levels, gap_floor: float = GAP_FLOOR
) -> Square:
    """Density matrix in an orthonormal basis, twice differentiable in ``fock``.

    P = Σ_p f_p u_p u_p†. First derivative along G: Σ_pq w_pq (u_p† G u_q) u_p u_q† with the
    divided differences of :func:`divided_difference`; second by second-order ones.

    Args:
        fock: Hermitian Fock matrix in the orthonormal basis; only its derivative is used.
        energy: Its eigenvalues, detached.
        vectors: Its eigenvectors (columns), detached.
        occ: Occupations, constants of the differentiation.
        gap_floor: See :func:`divided_difference`.

    Returns:
        P, same shape as ``fock``.
    """
    spectrum = (energy, vectors, occ, gap_floor)
    return _Density.apply(fock, spectrum)  # pyright: ignore
