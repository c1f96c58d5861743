"""Coupling coefficients and harmonics: e3nn's, and invariant by themselves."""

import itertools

import pytest
import torch
from e3nn import o3

from deeph_zero.ao.coupling import spherical_harmonics, wigner_3j
from deeph_zero.ao.rotation import wigner_d

TRIPLES = [
    (a, b, c)
    for a, b in itertools.product(range(6), repeat=2)
    for c in range(abs(a - b), a + b + 1)
]


@pytest.mark.reference
def test_coefficients_are_those_of_e3nn():
    for ls in TRIPLES:
        expected = o3.wigner_3j(*ls, dtype=torch.float64)
        torch.testing.assert_close(wigner_3j(*ls), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("ls", [(1, 1, 1), (1, 2, 3), (2, 2, 3), (3, 4, 5)])
def test_coefficients_are_invariant(ls, rng):
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64))
    turn = q * torch.linalg.det(q)
    a, b, c = (wigner_d(l, turn) for l in ls)
    turned = torch.einsum("ai,bj,ck,ijk->abc", a, b, c, wigner_3j(*ls))
    torch.testing.assert_close(turned, wigner_3j(*ls), rtol=0, atol=1e-13)


@pytest.mark.reference
@pytest.mark.parametrize("l", range(11))
def test_harmonics_are_those_of_e3nn(l, rng):
    points = torch.nn.functional.normalize(
        torch.randn(2, 9, 3, generator=rng, dtype=torch.float64), dim=-1
    )
    expected = o3.spherical_harmonics(l, points, normalize=False, normalization="norm")
    torch.testing.assert_close(spherical_harmonics(l, points), expected, rtol=0, atol=1e-14)
