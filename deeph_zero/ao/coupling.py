"""Real coupling coefficients of angular momenta and real spherical harmonics, in network axes.

Both follow e3nn's conventions of order, sign and normalisation to the last digit, and tests compare
them with e3nn. Importing e3nn itself loads compilers that take longer than a prediction.
"""

import functools
import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from deeph_zero.ao.convention import m_order, to_user_axes
from deeph_zero.ao.harmonics import angular_table, monomials


@functools.cache
def wigner_3j(l1: int, l2: int, l3: int) -> Float[Tensor, "m1 m2 m3"]:
    """Coefficients that couple real harmonics of l1 and l2 to l3, of norm 1 over all elements.

    They are invariant: turning all three indices with Wigner matrices changes nothing.

    Args:
        l1: Angular momentum.
        l2: Angular momentum.
        l3: Angular momentum, from abs(l1 - l2) to l1 + l2.

    Returns:
        Float64, m = -l..l along each axis; shared, so not to be changed in place.

    References:
        D. A. Varshalovich et al., Quantum Theory of Angular Momentum (1988), eq. 8.2.1(3).
    """
    complex_ = torch.zeros(2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1, dtype=torch.complex128)
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -l3 - m1), min(l2, l3 - m1) + 1):
            complex_[l1 + m1, l2 + m2, l3 + m1 + m2] = _clebsch_gordan((l1, m1), (l2, m2), l3)
    u1, u2, u3 = (_real_to_complex(l) for l in (l1, l2, l3))
    turned = u2.mT @ (complex_ @ u3.conj())
    real = (u1.mT @ turned.flatten(1)).real.reshape(complex_.shape)
    return real / real.norm()


def _clebsch_gordan(first: tuple[int, int], second: tuple[int, int], j: int) -> float:
    """<j1 m1 j2 m2 | j m1+m2>: integers until the root."""
    (j1, m1), (j2, m2), m = first, second, first[1] + second[1]
    fact, comb = math.factorial, math.comb
    a, b, c = j1 + j2 - j, j1 - j2 + j, j2 - j1 + j
    total = sum(
        (-1) ** z * comb(a, z) * comb(b, j1 - m1 - z) * comb(c, j2 + m2 - z)
        for z in range(max(0, j1 - m1 - b, j2 + m2 - c), min(a, j1 - m1, j2 + m2) + 1)
    )
    above = (2 * j + 1) * math.prod(fact(l + k) * fact(l - k) for l, k in (first, second, (j, m)))
    below = fact(a + b + c + 1) * fact(a) * fact(b) * fact(c)
    return math.copysign(math.sqrt(above * total**2 / below), total)


@functools.cache
def _real_to_complex(l: int) -> Complex[Tensor, "m m"]:
    """Columns: real harmonics (no Condon-Shortley phase); rows: complex ones (with it), times i^-l.

    The factor makes the coupling coefficients real for every parity of l1 + l2 + l3.
    """
    phase, root = (1.0, -1.0j, -1.0, 1.0j)[l % 4], math.sqrt(0.5)
    rows = [[0j] * (2 * l + 1) for _ in range(2 * l + 1)]
    rows[l][l] = 1.0 * phase
    for m in range(1, l + 1):
        plus, minus, sign = l + m, l - m, (-1) ** m
        rows[plus][plus], rows[minus][plus] = sign * root * phase, root * phase
        rows[plus][minus], rows[minus][minus] = sign * 1j * root * phase, -1j * root * phase
    return torch.tensor(rows, dtype=torch.complex128)


def spherical_harmonics(l: int, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch m"]:
    """Real harmonics of degree l of unit vectors in network axes, norm 1, m = -l..l."""
    x, y, z = to_user_axes(points).unbind(-1)
    one = torch.ones_like(x)
    powers = [[one, *_powers(c, l)] for c in (x, y, z)]
    columns = [powers[0][a] * powers[1][b] * powers[2][c] for a, b, c in monomials(l)]
    table = _table(l).to(points)
    return torch.stack(columns, -1) @ table


def _powers(x: Tensor, highest: int) -> list[Tensor]:
    out = [x] if highest else []
    while len(out) < highest:
        out.append(out[-1] * x)
    return out


@functools.cache
def _table(l: int) -> Float[Tensor, "nmono m"]:
    """Coefficients of the monomials, harmonics by m."""
    norm = math.sqrt(4.0 * math.pi / (2 * l + 1))
    return norm * angular_table(l, 0, cart=False)[list(m_order(l))].mT
