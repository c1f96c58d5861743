"""Orthonormal bases of overlap matrices."""

import pytest
import torch

from deeph_zero.ks.linalg.orthogonalise import orthogonaliser


def overlap(values):
    torch.manual_seed(0)
    vectors = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    return (vectors * torch.tensor(values, dtype=torch.float64)) @ vectors.T


def test_independent_functions_are_orthonormalised_symmetrically():
    s = overlap([0.2, 0.7, 1.1, 2.0])
    x = orthogonaliser(s, 1e-6)
    torch.testing.assert_close(x.T @ s @ x, torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(x, x.T)


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, 4), (1e-7, 3), (0.5, 2)])
def test_dependent_combinations_are_dropped(threshold, kept):
    s = overlap([1e-8, 0.3, 1.0, 2.7])
    x = orthogonaliser(s, threshold)
    assert x.shape == (4, kept)
    torch.testing.assert_close(x.T @ s @ x, torch.eye(kept, dtype=torch.float64), atol=1e-7, rtol=0)
