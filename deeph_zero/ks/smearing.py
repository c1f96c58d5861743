"""Fermi smearing: occupations, density and entropy of a Fock matrix, twice differentiable.

In an orthonormal basis P = f(F - μ), f(x) = 1 / (1 + exp(x / T)), with μ(F) from the electron
number. f is one smooth matrix function: its derivatives need only divided differences, finite for
equal energies. μ enters as a scalar function of F, so its response follows from the chain rule:
one Halley step about the solved μ reproduces μ(F) to second order. What the density minimises is
the free energy E - T S.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from deeph_zero.errors import InputError
from deeph_zero.ks.linalg.eigen import symmetric_eigen

Levels = Float[Tensor, " nmo"]
Square = Float[Tensor, "nmo nmo"]

_CLOSE = 1e-4
"""Three levels within this many T of each other: the second difference is half of f'' there."""


def fermi(energy: Float[Tensor, "*shape"], width: float) -> Float[Tensor, "*shape"]:
    """1 / (1 + exp(e / T)), energies relative to the chemical potential."""
    return torch.sigmoid(-energy / width)


def chemical_potential(energy: Levels, nocc: int, width: float) -> float:
    """μ with Σ_p f(e_p - μ) = nocc, by bisection.

    Args:
        energy: Ascending orbital energies of one spin, Eh.
        nocc: Electrons of this spin (pairs, for a closed shell), 0 < nocc < nmo.
        width: T, Eh.

    Returns:
        μ, Eh, to rounding.

    Raises:
        InputError: If no finite μ exists.
    """
    if not 0 < nocc < energy.shape[0]:
        raise InputError(
            f"expected 0 < electrons < orbitals for smearing, got {nocc} in {energy.shape[0]}; "
            "use a larger basis, or no smearing"
        )
    levels = energy.detach()
    margin = 50 * width
    low, high = float(levels.min()) - margin, float(levels.max()) + margin
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        # electrons above minus holes below: a sum of small numbers keeps its digits
        excess = _excess(levels - middle, nocc, width)
        low, high = (middle, high) if excess < 0 else (low, middle)
    return 0.5 * (low + high)


def _excess(shifted: Levels, nocc: int, width: float) -> float:
    filled = torch.arange(shifted.shape[0], device=shifted.device) < nocc
    return float(torch.where(filled, -fermi(-shifted, width), fermi(shifted, width)).sum())


def smeared_occupations(
    energy: Float[Tensor, "*spin nmo"], nelec: tuple[int, int], width: float
) -> tuple[Float[Tensor, "*spin nmo"], float]:
    """Fermi occupations and T S.

    Args:
        energy: Ascending orbital energies, [nmo] closed shell, [2, nmo] (alpha, beta), Eh.
        nelec: (n_alpha, n_beta); each spin has its own chemical potential.
        width: T, Eh.

    Returns:
        Occupations (2 per filled pair for a closed shell, 1 per spin orbital) and T S, Eh.

    Raises:
        InputError: If a spin fills every orbital.
    """
    spins = energy.reshape(-1, energy.shape[-1])
    per_orbital = 2.0 if energy.ndim == 1 else 1.0
    occ, ts = torch.zeros_like(spins), 0.0
    for s, levels in enumerate(spins):
        if nelec[s] == 0:
            continue
        x = levels - chemical_potential(levels, nelec[s], width)
        f = fermi(x, width)
        occ[s] = per_orbital * f
        ts += per_orbital * float((f * x - _omega(x, width)).sum())
    return occ.reshape(energy.shape), ts


def _omega(x: Levels, width: float) -> Levels:
    return -width * torch.nn.functional.softplus(-x / width)


def first_difference(x: Levels, width: float) -> Square:
    """f[x_p, x_q], f'(x) for equal arguments; relative precision everywhere."""
    lower = torch.minimum(x.unsqueeze(1), x.unsqueeze(0))
    upper = torch.maximum(x.unsqueeze(1), x.unsqueeze(0))
    u = (upper - lower) / width
    ratio = torch.where(u < 1e-12, 1.0, -torch.expm1(-u) / torch.where(u < 1e-12, 1.0, u))
    # f(lower) - f(upper) = f(lower) (1 - f(upper)) (1 - exp(-u))
    return -fermi(lower, width) * fermi(-upper, width) * ratio / width


def _second_differences(x: Levels, w: Square, p: int, width: float) -> Square:
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
    """Y = U (w ∘ (Uᵀ G U)) Uᵀ, the derivative of f(F) along G."""

    @staticmethod
    def forward(ctx: Any, fock: Square, g: Square, spectrum: tuple) -> Square:
        x, u, width = spectrum
        ctx.spectrum = spectrum
        ctx.save_for_backward(fock, g)
        return u @ (first_difference(x, width) * (u.mT @ g @ u)) @ u.mT

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Square) -> tuple[Tensor, Tensor, None]:
        _, g = ctx.saved_tensors
        x, u, width = ctx.spectrum
        w = first_difference(x, width)
        a = u.mT @ g @ u
        b = u.mT @ (0.5 * (grads[0] + grads[0].mT)) @ u
        out = torch.empty_like(a)
        for p in range(len(x)):
            second = _second_differences(x, w, p, width)
            out[p] = ((a[p].unsqueeze(1) * b + b[p].unsqueeze(1) * a) * second).sum(0)
        return u @ out @ u.mT, u @ (w * b) @ u.mT, None


class _FermiMatrix(Function):
    """f(F) for a matrix F whose spectrum is given."""

    @staticmethod
    def forward(ctx: Any, fock: Square, spectrum: tuple) -> Square:
        x, u, width = spectrum
        ctx.spectrum = spectrum
        ctx.save_for_backward(fock)
        return (u * fermi(x, width)) @ u.mT

    @staticmethod
    def backward(ctx: Any, *grads: Square) -> tuple[Tensor, None]:
        (fock,) = ctx.saved_tensors
        g = 0.5 * (grads[0] + grads[0].mT)
        return _FermiDerivative.apply(fock, g, ctx.spectrum), None  # pyright: ignore


class _GrandPotential(Function):
    """Ω(F) = -T tr ln(1 + exp(-F / T)); its derivative is f(F)."""

    @staticmethod
    def forward(ctx: Any, fock: Square, spectrum: tuple) -> Tensor:
        ctx.spectrum = spectrum
        ctx.save_for_backward(fock)
        return _omega(spectrum[0], spectrum[2]).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (fock,) = ctx.saved_tensors
        return grads[0] * _FermiMatrix.apply(fock, ctx.spectrum), None  # pyright: ignore


def smeared_density(fock: Square, nocc: int, width: float) -> tuple[Square, Float[Tensor, ""]]:
    """Density matrix and T S of one spin, in an orthonormal basis.

    Args:
        fock: Symmetric Fock matrix, Eh.
        nocc: Electrons of this spin (pairs, for a closed shell).
        width: T, Eh.

    Returns:
        P with occupations up to 1, and T S (Eh); both twice differentiable in ``fock``.

    Raises:
        InputError: If ``nocc`` fills every orbital.
        ComputationError: If ``fock`` is not finite.
    """
    if nocc == 0:
        return 0.0 * fock, 0.0 * fock.sum()
    with torch.no_grad():
        energy, u = symmetric_eigen(fock)
        mu = chemical_potential(energy, nocc, width)
    spectrum = (energy - mu, u, width)
    unit = torch.eye(len(energy), dtype=fock.dtype, device=fock.device)
    fixed = _FermiMatrix.apply(fock - mu * unit, spectrum)
    count = fixed.diagonal().sum() - nocc  # pyright: ignore
    hole = fixed - fixed @ fixed  # pyright: ignore[reportOperatorIssue]
    slope = hole.diagonal().sum() / width
    curvature = (hole @ (unit - 2 * fixed)).diagonal().sum() / width**2  # pyright: ignore
    # Halley: N(μ + δ) - nocc = count + slope δ + ½ curvature δ² = 0, to second order in count
    step = -count / slope - 0.5 * curvature * count**2 / slope**3
    shifted = fock - (mu + step) * unit
    dm = _FermiMatrix.apply(shifted, spectrum)
    omega = _GrandPotential.apply(shifted, spectrum)
    return dm, (shifted * dm).sum() - omega  # pyright: ignore
