"""Fermi smearing: occupations, density and entropy of a Fock matrix, twice differentiable.

In an orthonormal basis P = f(F - μ), f(x) = 1 / (1 + exp(x / T)), with μ(F) from the electron
number. f is one smooth matrix function: its derivatives need only divided differences, finite for
equal energies. μ enters as a scalar function of F, so its response follows from the chain rule:
one Halley step about the solved μ reproduces μ(F) to second order. What the density minimises is
the free energy E - T S.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Inexact
from torch import Tensor
from torch.autograd import Function

from deeph_zero.errors import InputError
from deeph_zero.ks.linalg.eigen import symmetric_eigen

Levels = Float[Tensor, "*k nmo"]
Square = Inexact[Tensor, "*k nmo nmo"]
Weights = Float[Tensor, "*k"]

NO_ORBITAL = 5e3
"""Levels from here on (Eh) stand for combinations of functions that were left out."""

_NO_RESPONSE = 1e-12
"""Smallest dN/dμ (1/Eh) to divide by: an insulator's chemical potential moves no electrons."""

_CLOSE = 1e-4
"""Three levels within this many T of each other: the second difference is half of f'' there."""


def fermi(energy: Float[Tensor, "*shape"], width: float) -> Float[Tensor, "*shape"]:
    """1 / (1 + exp(e / T)), energies relative to the chemical potential."""
    return torch.sigmoid(-energy / width)


def chemical_potential(
    energy: Levels, nocc: int | float, width: float, weights: Weights | None = None
) -> float:
    """μ with Σ_kp w_k f(e_kp - μ) = nocc, by Newton's method between safe bounds.

    Args:
        energy: Orbital energies of one spin, or of all spins and k-points that share μ, Eh.
        nocc: Electrons of this spin (pairs, for a closed shell), 0 < nocc < Σ_k w_k nmo.
        width: T, Eh.
        weights: w_k; None: 1.

    Returns:
        μ, Eh, to rounding.

    Raises:
        InputError: If no finite μ exists.
    """
    levels, order = energy.detach().reshape(-1).sort()
    share = _shares(energy, weights).reshape(-1)[order]
    most = float(share[levels < NO_ORBITAL].sum())
    if not 0 < nocc < most:
        raise InputError(
            f"expected 0 < electrons < orbitals for smearing, got {nocc:g} in {most:g}; "
            "use a larger basis, or no smearing"
        )
    filled = ((nocc - (share.cumsum(0) - share)) / share).clamp(0.0, 1.0)
    margin = 50 * width
    real = levels[levels < NO_ORBITAL]
    low, high = float(real[0]) - margin, float(real[-1]) + margin
    last = int((filled > 0).sum()) - 1  # the highest level that holds electrons at T = 0
    mu = 0.5 * float(levels[last] + levels[min(last + 1, len(real) - 1)])
    for _ in range(200):
        excess, slope = _excess(levels - mu, filled, share, width)
        low, high = (mu, high) if excess < 0 else (low, mu)
        newton = mu - excess / slope if slope > 0 else math.inf
        step_to = newton if low < newton < high else 0.5 * (low + high)
        if newton == mu or step_to in (low, high):
            break
        mu = step_to
    return mu


def _excess(shifted: Levels, filled: Levels, share: Levels, width: float) -> tuple[float, float]:
    """Electrons above minus holes below, a sum of small numbers that keeps its digits; its dμ."""
    f, holes = fermi(shifted, width), fermi(-shifted, width)
    part = torch.where(filled == 1, -holes, f - filled)
    excess, slope = torch.stack([share * part, share * f * holes / width]).sum(-1).tolist()
    return excess, slope


def _shares(energy: Levels, weights: Weights | None) -> Levels:
    """w_k of every level."""
    if weights is None:
        return torch.ones_like(energy)
    return weights.unsqueeze(-1).expand_as(energy)


def smeared_occupations(
    energy: Float[Tensor, "nspin nmo"], nelec: tuple[int, int], width: float
) -> tuple[Float[Tensor, "nspin nmo"], float]:
    """Fermi occupations and T S.

    Args:
        energy: Ascending orbital energies, one spin channel for a closed shell, Eh.
        nelec: (n_alpha, n_beta); each spin has its own chemical potential.
        width: T, Eh.

    Returns:
        Occupations (2 per filled pair for a closed shell, 1 per spin orbital) and T S, Eh.

    Raises:
        InputError: If a spin fills every orbital.
    """
    per_orbital = 2.0 / len(energy)
    occ, ts = torch.zeros_like(energy), 0.0
    for s, levels in enumerate(energy):
        if nelec[s] == 0:
            continue
        x = levels - chemical_potential(levels, nelec[s], width)
        f = fermi(x, width)
        occ[s] = per_orbital * f
        ts += per_orbital * float((f * x - _omega(x, width)).sum())
    return occ, ts


def _omega(x: Levels, width: float) -> Levels:
    return -width * torch.nn.functional.softplus(-x / width)


def first_difference(x: Levels, width: float) -> Square:
    """f[x_p, x_q], f'(x) for equal arguments; relative precision everywhere."""
    lower = torch.minimum(x.unsqueeze(-1), x.unsqueeze(-2))
    upper = torch.maximum(x.unsqueeze(-1), x.unsqueeze(-2))
    u = (upper - lower) / width
    ratio = torch.where(u < 1e-12, 1.0, -torch.expm1(-u) / torch.where(u < 1e-12, 1.0, u))
    # f(lower) - f(upper) = f(lower) (1 - f(upper)) (1 - exp(-u))
    return -fermi(lower, width) * fermi(-upper, width) * ratio / width


def _second_differences(
    x: Float[Tensor, " nmo"], w: Float[Tensor, "nmo nmo"], p: int, width: float
) -> Float[Tensor, "nmo nmo"]:
    """f[x_p, x_r, x_q] for all (r, q): through the two arguments that are farthest apart."""
    xp, xr, xq = x[p].expand(len(x), len(x)), x.unsqueeze(1), x.unsqueeze(0)
    d_pq, d_pr, d_rq = xp - xq, xp - xr, xr - xq
    by_pq = (w[p].unsqueeze(1) - w) / torch.where(d_pq == 0, 1.0, d_pq)
    by_pr = (w[p].unsqueeze(0) - w) / torch.where(d_pr == 0, 1.0, d_pr)
    by_rq = (w[p].unsqueeze(1) - w[p].unsqueeze(0)) / torch.where(d_rq == 0, 1.0, d_rq)
    a, b, c = d_pq.abs(), d_pr.abs(), d_rq.abs()
    spread = torch.maximum(torch.maximum(a, b), c)
    centre = (xp + xr + xq) / 3
    f = fermi(centre, width)
    taylor = 0.5 * f * (1 - f) * (1 - 2 * f) / width**2
    out = torch.where(a >= spread, by_pq, torch.where(b >= spread, by_pr, by_rq))
    return torch.where(spread < _CLOSE * width, taylor, out)


class _FermiDerivative(Function):
    """Y = U (w ∘ (U† G U)) U†, the derivative of f(F) along G."""

    @staticmethod
    def forward(ctx: Any, fock: Square, g: Square, spectrum: tuple) -> Square:
        x, u, width = spectrum
        ctx.spectrum = spectrum
        ctx.save_for_backward(fock, g)
        return u @ (first_difference(x, width) * (u.mH @ g @ u)) @ u.mH

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Square) -> tuple[Tensor, Tensor, None]:
        _, g = ctx.saved_tensors
        x, u, width = ctx.spectrum
        w = first_difference(x, width)
        a = u.mH @ g @ u
        b = u.mH @ (0.5 * (grads[0] + grads[0].mH)) @ u
        flat_x, flat_w, flat_a, flat_b = (
            m.reshape(-1, *m.shape[x.ndim - 1 :]) for m in (x, w, a, b)
        )
        out = torch.stack(
            [
                _second_order(flat_x[i], flat_w[i], flat_a[i], flat_b[i], width)
                for i in range(len(flat_x))
            ]
        ).reshape(a.shape)
        return u @ out @ u.mH, u @ (w * b) @ u.mH, None


def _second_order(
    x: Float[Tensor, " nmo"],
    w: Float[Tensor, "nmo nmo"],
    a: Inexact[Tensor, "nmo nmo"],
    b: Inexact[Tensor, "nmo nmo"],
    width: float,
) -> Inexact[Tensor, "nmo nmo"]:
    """Σ_r f[p,r,q] (a_pr b_rq + b_pr a_rq) of one matrix."""
    out = torch.empty_like(a)
    for p in range(len(x)):
        second = _second_differences(x, w, p, width)
        out[p] = ((a[p].unsqueeze(1) * b + b[p].unsqueeze(1) * a) * second).sum(0)
    return out


class _FermiMatrix(Function):
    """f(F) for a matrix F whose spectrum is given."""

    @staticmethod
    def forward(ctx: Any, fock: Square, spectrum: tuple) -> Square:
        x, u, width = spectrum
        ctx.spectrum = spectrum
        ctx.save_for_backward(fock)
        return (u * fermi(x, width).unsqueeze(-2)) @ u.mH

    @staticmethod
    def backward(ctx: Any, *grads: Square) -> tuple[Tensor, None]:
        (fock,) = ctx.saved_tensors
        g = 0.5 * (grads[0] + grads[0].mH)
        return _FermiDerivative.apply(fock, g, ctx.spectrum), None  # pyright: ignore


class _GrandPotential(Function):
    """Ω(F) = -T tr ln(1 + exp(-F / T)) of every matrix; its derivative is f(F)."""

    @staticmethod
    def forward(ctx: Any, fock: Square, spectrum: tuple) -> Tensor:
        ctx.spectrum = spectrum
        ctx.save_for_backward(fock)
        return _omega(spectrum[0], spectrum[2]).sum(-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (fock,) = ctx.saved_tensors
        scale = grads[0].unsqueeze(-1).unsqueeze(-1)
        return scale * _FermiMatrix.apply(fock, ctx.spectrum), None  # pyright: ignore


def smeared_density(
    fock: Square, nocc: int | float, width: float, weights: Weights | None = None
) -> tuple[Square, Float[Tensor, ""]]:
    """Density matrix and T S of what shares a chemical potential, in an orthonormal basis.

    Args:
        fock: Fock matrix of one spin, or of several k-points and spins, Eh.
        nocc: Electrons of this spin (pairs, for a closed shell).
        width: T, Eh.
        weights: w_k of the matrices; None: 1.

    Returns:
        P with occupations up to 1, and T S (Eh); both twice differentiable in ``fock``.

    Raises:
        InputError: If ``nocc`` fills every orbital.
        ComputationError: If ``fock`` is not finite.
    """
    if nocc == 0:
        return 0.0 * fock, (0.0 * fock).real.sum()
    with torch.no_grad():
        energy, u = symmetric_eigen(fock)
        mu = chemical_potential(energy, nocc, width, weights)
    spectrum = (energy - mu, u, width)
    unit = torch.eye(energy.shape[-1], dtype=fock.dtype, device=fock.device)
    fixed = _FermiMatrix.apply(fock - mu * unit, spectrum)
    hole = fixed - fixed @ fixed  # pyright: ignore[reportOperatorIssue]
    count = _trace(fixed, weights)  # pyright: ignore[reportArgumentType]
    change = count - count.detach()  # its value is rounding: μ was solved
    slope = (_trace(hole, weights) / width).clamp_min(_NO_RESPONSE)
    curvature = _trace(hole @ (unit - 2 * fixed), weights) / width**2  # pyright: ignore
    # Halley: N(μ + δ) - nocc = change + slope δ + ½ curvature δ² = 0, to second order in change
    step = -change / slope - 0.5 * curvature * change**2 / slope**3
    shifted = fock - (mu + step) * unit
    dm = _FermiMatrix.apply(shifted, spectrum)
    omega = _GrandPotential.apply(shifted, spectrum)
    inside = _trace(shifted @ dm, weights)  # pyright: ignore[reportOperatorIssue]
    return dm, inside - (omega if weights is None else weights * omega).sum()  # pyright: ignore


def _trace(matrix: Square, weights: Weights | None) -> Float[Tensor, ""]:
    """Σ_k w_k Re tr."""
    traces = matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
    traces = traces.real if traces.is_complex() else traces
    return (traces if weights is None else weights * traces).sum()
