"""VV10 non-local correlation: energy, potential and derivatives as sums over pairs of points.

E = Σ_i w_i ρ_i (β + ½ Σ_j w_j ρ_j Φ_ij) with Φ_ij = -3 / (2 g_ij g_ji (g_ij + g_ji)) and
g_ij = ω_i R_ij² + κ_i, where ω² = C γ² / ρ⁴ + 4π ρ / 3 (γ = |∇ρ|²), κ = (3π b / 2) (ρ / 9π)^(1/6)
and β = (3 / b²)^(3/4) / 32. Points below :data:`DENSITY_CUTOFF` are left out, as in PySCF.

g is a product of five columns with five rows, so a block of pairs is a handful of matrix products
and multiplications. Changes of the density are carried through the same sums by forward mode, the
pointwise part by torch and the pairs by formula, so that no graph of the pairs is ever kept.

References:
    O. A. Vydrov and T. Van Voorhis, J. Chem. Phys. 133, 244103 (2010), doi:10.1063/1.3521275,
    equations (3) to (13).
"""

import math
from collections.abc import Iterator
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp

from deeph_zero.ks.parallel.recording import Operations, recorded
from deeph_zero.ks.parallel.sharing import share
from deeph_zero.ks.protocol import Points, VV10Parameters
from deeph_zero.types import GridScalar

DENSITY_CUTOFF = 1e-8
"""Points with less density (1/bohr³) take no part; PySCF's number."""

OUTER_POINTS = 256
"""Points of one side of a block: neighbours on the grid, so that distances stay accurate."""
PAIRS_CPU = 1 << 16
PAIRS_DEVICE = 1 << 24
"""Pairs per block (8 bytes each, in about five arrays): the processor's cache, or a GPU's width."""

GradientRows = Float[Tensor, "4 ngrids"]
"""ρ and its three gradient components."""


def potential(
    rho: GradientRows, points: Points, terms: tuple[VV10Parameters, ...]
) -> tuple[GridScalar, GradientRows]:
    """Energy per volume and the derivative of the energy, per quadrature weight.

    Args:
        rho: Total density and gradient, atomic units.
        points: Where.
        terms: Parameters.

    Returns:
        e with E = Σ w e, Eh / bohr³, and v with ∂E/∂rho = w v, the shape of ``rho``. Zero at
        points without density.

    Accuracy:
        Against PySCF's double loop 1e-13 relative.

    Cost:
        Quadratic in the number of points; memory for one block of pairs.
    """
    used, inside = _used(rho, points)
    out = rho.new_zeros(5, rho.shape[1])
    for term in terms:
        out[:, used] += _value(rho[:, used], inside, term)
    return out[0], out[1:]


def response(
    rho: GradientRows, d1: GradientRows, points: Points, terms: tuple[VV10Parameters, ...]
) -> GradientRows:
    """Derivative of the potential along a change of density.

    Args:
        rho: Total density and gradient, atomic units.
        d1: Direction.
        points: Where.
        terms: Parameters.

    Returns:
        dv, the shape of ``rho``; linear in ``d1``, and (with the weights) self-adjoint.
    """
    used, inside = _used(rho, points)
    out = torch.zeros_like(rho)
    for term in terms:
        out[:, used] += _first(rho[:, used], d1[:, used], inside, term)[1:]
    return out


def second_response(
    rho: GradientRows,
    d1: GradientRows,
    d2: GradientRows,
    points: Points,
    terms: tuple[VV10Parameters, ...],
) -> GradientRows:
    """Second derivative of the potential along two changes of density.

    Args:
        rho: Total density and gradient, atomic units.
        d1: First direction.
        d2: Second direction.
        points: Where.
        terms: Parameters.

    Returns:
        d²v, the shape of ``rho``; bilinear and symmetric.
    """
    used, inside = _used(rho, points)
    out = torch.zeros_like(rho)
    for term in terms:
        out[:, used] += _second(rho[:, used], d1[:, used], d2[:, used], inside, term)[1:]
    return out


def _used(rho: Tensor, points: Points) -> tuple[Tensor, Points]:
    """Indices of the points that take part, and these points."""
    used = torch.nonzero(rho[0] >= DENSITY_CUTOFF).squeeze(1)
    return used, Points(points.coords[used], points.weights[used])


def _local(rho: Tensor, weights: Tensor, term: VV10Parameters) -> Tensor:
    """ω, κ and the charge w ρ of every point, [3, npoints]."""
    density, gamma = rho[0], (rho[1:] * rho[1:]).sum(0)
    ratio = gamma / (density * density)
    omega = (term.c * ratio * ratio + (4.0 * math.pi / 3.0) * density).sqrt()
    kappa = 1.5 * math.pi * term.b * (density / (9.0 * math.pi)) ** (1.0 / 6.0)
    return torch.stack([omega, kappa, weights * density])


def _assembled(rho: Tensor, sums: Tensor, term: VV10Parameters) -> Tensor:
    """Energy per volume and potential, [5, npoints], from F and its derivatives by κ and ω."""
    density, grad = rho[0], rho[1:]
    f, f_kappa, f_omega = sums
    gamma = (grad * grad).sum(0)
    ratio = gamma / (density * density)
    omega, kappa, _ = _local(rho, density, term)
    omega_rho = ((2.0 * math.pi / 3.0) - 2.0 * term.c * ratio * ratio / density) / omega
    omega_gamma = term.c * ratio / (density * density * omega)
    beta = (3.0 / term.b**2) ** 0.75 / 32.0
    v_rho = beta + f + density * (f_kappa * kappa / (6.0 * density) + f_omega * omega_rho)
    v_grad = (2.0 * density * f_omega * omega_gamma) * grad
    rows = torch.cat([(density * (beta + 0.5 * f)).unsqueeze(0), v_rho.unsqueeze(0), v_grad])
    return term.coefficient * rows


def _value(rho: Tensor, points: Points, term: VV10Parameters) -> Tensor:
    """[5, npoints]: energy per volume and potential of one term."""
    (sums,) = pair_sums((_local(rho, points.weights, term),), points.coords)
    return _assembled(rho, sums, term)


def _first(rho: Tensor, d1: Tensor, points: Points, term: VV10Parameters) -> Tensor:
    """Derivative of :func:`_value` along ``d1``."""
    x0, x1 = jvp(lambda x: _local(x, points.weights, term), (rho,), (d1,))[:2]
    sums = pair_sums((x0, x1), points.coords)
    return jvp(lambda x, y: _assembled(x, y, term), (rho, sums[0]), (d1, sums[1]))[1]


def _second(rho: Tensor, d1: Tensor, d2: Tensor, points: Points, term: VV10Parameters) -> Tensor:
    """Second derivative of :func:`_value` along ``d1`` and ``d2``."""

    def local(x: Tensor) -> Tensor:
        return _local(x, points.weights, term)

    def along_d2(x: Tensor) -> tuple[Tensor, Tensor]:
        x, x2 = jvp(local, (x,), (d2,))[:2]
        return x, x2

    (x0, x2), (x1, x12) = jvp(along_d2, (rho,), (d1,))[:2]
    s0, s1, s2, s12 = pair_sums((x0, x1, x2, x12), points.coords)

    def assembled(x: Tensor, s: Tensor) -> Tensor:
        return _assembled(x, s, term)

    def assembled_d2(x: Tensor, s: Tensor, ds: Tensor) -> Tensor:
        return jvp(assembled, (x, s), (d2, ds))[1]

    return jvp(assembled_d2, (rho, s0, s2), (d1, s1, s12))[1]


def pair_sums(
    local: tuple[Float[Tensor, "3 npoints"], ...], coords: Float[Tensor, "npoints 3"]
) -> tuple[Float[Tensor, "3 npoints"], ...]:
    """F_i = Σ_j q_j Φ_ij, its derivatives by κ_i and ω_i, and what changes of ω, κ, q make of them.

    Args:
        local: ω, κ and q at every point; then, optionally, a change of them; or two changes and
            their second-order change.
        coords: Where, bohr.

    Returns:
        F, ∂F/∂κ and ∂F/∂ω per entry of ``local``: the values, their first changes and the
        second-order change.

    Cost:
        Quadratic. One change costs about three times the values alone, two about ten times.
    """
    n = coords.shape[0]
    outer = max(min(OUTER_POINTS, n), 1)
    on_cpu = coords.device.type == "cpu"
    inner = max((PAIRS_CPU if on_cpu else PAIRS_DEVICE) // len(local) // outer, 1)
    parts: list[list[Tensor]] = [[local[0].new_zeros(3, 0)] for _ in local]

    def work(start: int) -> list[Tensor]:
        return _rows_of_sums(local, coords, slice(start, min(start + outer, n)), inner)

    def use(found: list[Tensor]) -> None:
        for part, one in zip(parts, found, strict=True):
            part.append(one)

    share(work, iter(range(0, n, outer)), use, on_cpu=on_cpu)
    return tuple(torch.cat(part, dim=1) for part in parts)


def _rows_of_sums(
    local: tuple[Tensor, ...], coords: Tensor, rows: slice, inner: int
) -> list[Tensor]:
    """:func:`pair_sums` of some points, ``inner`` of their partners at a time."""
    # distances from the block's middle: what cancels in R² is then as small as R itself
    shifted = coords - coords[rows].mean(0)
    square = (shifted * shifted).sum(1)
    x = torch.stack([torch.ones_like(square), square, *shifted.unbind(1)])
    step = _recorded_block(len(local)) if x.device.type == "cpu" else _block
    outer = x[:, rows], *[y[:, rows] for y in local]
    total: list[Tensor] = [x.new_zeros(outer[0].shape[1], 6) for _ in local]
    for x_cols, *y_cols in zip(*[one.split(inner, dim=1) for one in (x, *local)], strict=True):
        for k, sums in enumerate(step(outer[0], x_cols, *outer[1:], *y_cols)):
            total[k] += sums
    return [_with_distances(sums, outer[0]) for sums in total]


@lru_cache(maxsize=3)
def _recorded_block(orders: int) -> Operations:
    return recorded(_block, (5, 16), (5, 16), *[(3, 16)] * (2 * orders))


def _block(x_rows: Tensor, x_cols: Tensor, *local: Tensor) -> tuple[Tensor, ...]:
    """Sums of the outer points over the inner ones; ω, κ, q per order, of the outer ones first."""
    half = len(local) // 2
    left = [_factors(y[0], y[1], x_rows) for y in local[:half]]
    right = [_factors(y[0], y[1], x_cols) for y in local[half:]]
    a = [one.mT @ _swapped(x_cols) for one in left]
    b = [_swapped(x_rows).mT @ one for one in right]
    return tuple(_block_sums(a, b, [y[2] for y in local[half:]], x_cols))


def _factors(omega: Tensor, kappa: Tensor, x: Tensor) -> Tensor:
    """ω R² + κ as a product: these rows of one point times :func:`_swapped` rows of the other."""
    out = omega * x
    out[1] += kappa
    return out


def _swapped(x: Tensor) -> Tensor:
    """Rows |x|², 1, -2 x against the rows 1, |x|², x: their product is R²."""
    return torch.cat([x[1:2], x[:1], -2.0 * x[2:]])


def _with_distances(sums: Tensor, x: Tensor) -> Tensor:
    """F, ∂F/∂κ, ∂F/∂ω from Σ q r and the moments 1, R_j², R_j of q u."""
    f, zero, square, vector = sums[:, 0], sums[:, 1], sums[:, 2], sums[:, 3:]
    weighted = x[1] * zero + square - 2.0 * (x[2:].mT * vector).sum(1)
    return torch.stack([-1.5 * f, 1.5 * zero, 1.5 * weighted])


def _block_sums(
    a: list[Tensor], b: list[Tensor], charges: list[Tensor], x: Tensor
) -> Iterator[Tensor]:
    """Sums over the inner points of q r and of q u with its moments, per order; [nouter, 6]."""
    kernels = _kernels(a, b)
    vectors = [torch.cat([q.unsqueeze(0), q * x]).mT for q in charges]

    def product(kernel: tuple[Tensor, Tensor], vector: Tensor) -> Tensor:
        return torch.cat([kernel[0] @ vector[:, :1], kernel[1] @ vector[:, 1:]], dim=1)

    yield product(kernels[0], vectors[0])
    for k in range(1, min(len(a), 3)):
        yield product(kernels[k], vectors[0]) + product(kernels[0], vectors[k])
    if len(a) == 4:
        mixed = product(kernels[1], vectors[2]) + product(kernels[2], vectors[1])
        yield product(kernels[3], vectors[0]) + product(kernels[0], vectors[3]) + mixed


def _kernels(a: list[Tensor], b: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """r = 1 / (a b s) and u = r (1/a + 1/s) with s = a + b, and what changes of a, b make of them.

    Φ = -3/2 r and ∂Φ/∂a = 3/2 u. With e = -d ln r and l = 1/a + 1/s: dr = -r e, du = dr l + r dl.
    """
    s = a[0] + b[0]
    if len(a) == 1:  # one division, all in place: this is the Fock build
        r = (a[0] * b[0]).mul_(s).reciprocal_()
        return [(r, s.add_(a[0]).mul_(b[0]).mul_(r).mul_(r))]
    ia, ib, inv_s = a[0].reciprocal_(), b[0].reciprocal_(), s.reciprocal_()
    r, gap = (ia * ib).mul_(inv_s), ia + inv_s
    ia2, is2 = ia * ia, inv_s * inv_s
    out = [(r, r * gap)]
    changes = []
    for a1, b1 in zip(a[1:3], b[1:3], strict=True):
        s1 = a1 + b1
        e1 = (a1 * ia).addcmul_(b1, ib).addcmul_(s1, inv_s)
        r1 = (r * e1).neg_()
        l1 = (a1 * ia2).addcmul_(s1, is2).neg_()
        changes.append((a1, b1, s1, e1, r1, l1))
        out.append((r1, (r1 * gap).addcmul_(r, l1)))
    if len(a) == 4:
        a1, b1, s1, e1, r1, l1 = changes[0]
        a2, b2, s2, e2, r2, l2 = changes[1]
        a12, b12, s12 = a[3], b[3], a[3] + b[3]
        log12 = a1 * a2 * ia2 + b1 * b2 * ib * ib + s1 * s2 * is2
        log12 = log12 - (a12 * ia + b12 * ib + s12 * inv_s)
        r12 = r * (e1 * e2 + log12)
        l12 = 2.0 * (a1 * a2 * ia2 * ia + s1 * s2 * is2 * inv_s) - (a12 * ia2 + s12 * is2)
        out.append((r12, r12 * gap + r1 * l2 + r2 * l1 + r * l12))
    return out
