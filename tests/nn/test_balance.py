"""Corrections between partly orthogonalised orbitals: algebra, symmetry, and what they prevent."""

import pytest
import torch

from deeph_zero.nn.balance import SOFTNESS, Balance


def symmetric(n, seed=0):
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a + a.mT


def overlap(*small, n=8):
    """An overlap matrix with these eigenvalues and others of ordinary size."""
    _, vectors = torch.linalg.eigh(symmetric(n, 1))
    s = torch.cat([torch.tensor(small), torch.linspace(0.3, 3.0, n - len(small))]).double()
    return (vectors * s) @ vectors.mT


def test_the_square_of_the_root_is_s_over_s_plus_a_constant():
    s = overlap(1e-3)
    root = Balance.of(s).root
    expected = torch.linalg.solve(s + SOFTNESS * torch.eye(8, dtype=torch.float64), s)
    torch.testing.assert_close(root @ root, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("small", [0.3, 1e-4, 0.0, -1e-17])
def test_every_correction_has_an_output_and_comes_back(small):
    balance = Balance.of(overlap(small))
    wanted = torch.stack([symmetric(8, 2), symmetric(8, 3)])  # of two spins
    output = balance.predicted(wanted)
    assert (output - wanted).abs().max() > 0.01
    torch.testing.assert_close(balance.correction(output), wanted, rtol=0, atol=1e-10)


def test_orbitals_that_nearly_cancel_magnify_no_error():
    s = overlap(4e-4)
    error = 1e-4 * symmetric(8, 4)
    values, vectors = torch.linalg.eigh(s)
    x = vectors / values.sqrt()
    of_elements = torch.linalg.eigvalsh(x.mT @ error @ x).abs().max()
    balanced = torch.linalg.eigvalsh(x.mT @ Balance.of(s).correction(error) @ x).abs().max()
    assert of_elements > 0.1
    assert balanced < torch.linalg.matrix_norm(error, 2) / SOFTNESS


def test_it_turns_with_the_orbitals():
    s = overlap(1e-3)
    q, _ = torch.linalg.qr(symmetric(8, 5))
    turned = Balance.of(q @ s @ q.mT)
    torch.testing.assert_close(turned.root, q @ Balance.of(s).root @ q.mT, rtol=0, atol=1e-12)
