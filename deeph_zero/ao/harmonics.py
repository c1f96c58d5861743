"""Real solid harmonics and Cartesian monomials as polynomial tables, with their derivatives."""

import functools
import math
from fractions import Fraction
from itertools import combinations_with_replacement

import torch
from jaxtyping import Float
from torch import Tensor

from deeph_zero.ao.convention import m_order

Powers = tuple[int, int, int]
Polynomial = dict[Powers, float]

_CPU = torch.device("cpu")


def monomials(l: int) -> list[Powers]:
    """Exponents of x^i y^j z^k with i + j + k = l, in PySCF's order (xx, xy, xz, yy, yz, zz).

    Args:
        l: Degree.

    Returns:
        (l+1)(l+2)/2 triples.
    """
    return [(i, j, l - i - j) for i in range(l, -1, -1) for j in range(l - i, -1, -1)]


def solid_harmonic(l: int, m: int) -> Polynomial:
    """r^l times the real spherical harmonic Y_lm, normalised to 1 on the unit sphere.

    No Condon-Shortley phase: m > 0 goes with cos(m φ), m < 0 with sin(|m| φ), both with a positive
    sign where x and y are small and positive.

    Args:
        l: Angular momentum.
        m: -l <= m <= l.

    Returns:
        Coefficients of monomials of degree l.

    References:
        T. Helgaker, P. Jørgensen, J. Olsen, Molecular Electronic-Structure Theory (2000),
        eqs. 6.4.20-6.4.22 and 6.4.47.
    """
    order = abs(m)
    equator = _powers_of_x_plus_iy(order, imaginary=m < 0)
    exact: dict[Powers, Fraction] = {}
    for k in range((l - order) // 2 + 1):
        factor = Fraction((-1) ** k * math.comb(l, k) * math.comb(2 * l - 2 * k, l), 2**l)
        factor *= Fraction(math.factorial(l - 2 * k), math.factorial(l - 2 * k - order))
        for (a, b, c), times in _powers_of_r_squared(k).items():
            for (i, j), sign in equator.items():
                key = (a + i, b + j, c + l - 2 * k - order)
                exact[key] = exact.get(key, Fraction(0)) + factor * times * sign
    square = Fraction((2 * l + 1) * math.factorial(l - order), math.factorial(l + order))
    norm = math.sqrt(square * (2 if m else 1)) / math.sqrt(4.0 * math.pi)
    return {key: norm * float(value) for key, value in exact.items() if value}


def _powers_of_x_plus_iy(m: int, *, imaginary: bool) -> dict[tuple[int, int], int]:
    """Real or imaginary part of (x + iy)^m."""
    parity = int(imaginary)
    return {(m - j, j): (-1) ** (j // 2) * math.comb(m, j) for j in range(m + 1) if j % 2 == parity}


def _powers_of_r_squared(k: int) -> dict[Powers, int]:
    """(x² + y² + z²)^k."""
    return {
        (2 * a, 2 * b, 2 * c): math.comb(k, a) * math.comb(k - a, b) for a, b, c in monomials(k)
    }


def angular_functions(l: int, *, cart: bool) -> list[Polynomial]:
    """The polynomials that multiply a radial function, in PySCF's order.

    Args:
        l: Angular momentum.
        cart: Cartesian monomials instead of solid harmonics. PySCF normalises both kinds of s and p
            functions alike and leaves higher monomials as they are.

    Returns:
        (l+1)(l+2)/2 or 2l+1 polynomials of degree l.
    """
    if cart:
        factor = math.sqrt((2 * l + 1) / (4.0 * math.pi)) if l < 2 else 1.0
        return [{powers: factor} for powers in monomials(l)]
    ordered = sorted(zip(m_order(l), range(-l, l + 1), strict=True))
    return [solid_harmonic(l, m) for _, m in ordered]


def differentiate(polynomial: Polynomial, axis: int) -> Polynomial:
    """Derivative with respect to x, y or z (axis 0, 1 or 2)."""
    out = {}
    for powers, coefficient in polynomial.items():
        if powers[axis]:
            lowered = [n - (k == axis) for k, n in enumerate(powers)]
            out[lowered[0], lowered[1], lowered[2]] = coefficient * powers[axis]
    return out


@functools.cache
def angular_table(
    l: int, order: int, *, cart: bool, device: torch.device = _CPU
) -> Float[Tensor, "rows nmono"]:
    """Coefficients of the angular functions or of their derivatives.

    Args:
        l: Angular momentum.
        order: 0: the functions; 1: d/dx, d/dy, d/dz; 2: xx, xy, xz, yy, yz, zz.
        cart: Cartesian monomials instead of solid harmonics.
        device: Where the table is kept.

    Returns:
        Rows: derivative by derivative, the functions of a shell; columns: the monomials of degree
        l - ``order`` (a single column of zeros where that is negative). Float64.
    """
    degree = l - order
    column = {powers: k for k, powers in enumerate(monomials(max(degree, 0)))}
    rows = []
    for axes in combinations_with_replacement(range(3), order):
        for function in angular_functions(l, cart=cart):
            derived = functools.reduce(differentiate, axes, function)
            row = [0.0] * len(column)
            for powers, coefficient in derived.items():
                row[column[powers]] = coefficient
            rows.append(row)
    return torch.tensor(rows, dtype=torch.float64, device=device)
