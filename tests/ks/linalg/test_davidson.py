"""Davidson against dense diagonalisation."""

import pytest
import torch

from deeph_zero.ks.linalg.davidson import lowest_eigenpair


def _matrix(n, seed, coupling=0.3):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, n, generator=generator, dtype=torch.float64) * coupling / n**0.5
    return torch.diag(torch.linspace(0.3, 5, n, dtype=torch.float64)) + noise + noise.mT


@pytest.mark.parametrize("n", [1, 2, 7, 120])
def test_lowest_eigenvalue(n):
    a = _matrix(n, n)
    found = lowest_eigenpair(lambda v: a @ v, a.diagonal(), tol=1e-6)
    assert found.converged
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(a)[0]), abs=1e-10)
    torch.testing.assert_close(a @ found.vector, found.value * found.vector, atol=2e-6, rtol=0)
    assert found.products <= min(n, 40)


def test_the_lowest_may_live_in_another_symmetry():
    """Two blocks without coupling: the smallest diagonal element is not the lowest state."""
    a = torch.zeros(60, 60, dtype=torch.float64)
    a[:30, :30] = _matrix(30, 1, coupling=0.0)
    # every state of the second block attracts every other
    a[30:, 30:] = _matrix(30, 2, coupling=0.0) + 0.8 * torch.eye(30) - 0.25
    want = torch.linalg.eigvalsh(a)
    assert a.diagonal().argmin() < 30
    assert want[0] < 0.2  # from the second block
    found = lowest_eigenpair(lambda v: a @ v, a.diagonal(), tol=1e-5)
    assert found.value == pytest.approx(float(want[0]), abs=1e-8)


def test_running_out_of_products_is_said():
    a = _matrix(120, 4, coupling=3.0)
    found = lowest_eigenpair(lambda v: a @ v, a.diagonal(), tol=1e-10, max_products=6)
    assert not found.converged
    assert found.products == 6
