"""Eigenvectors and projectors, by each of the ways a policy may choose."""

import pytest
import torch

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.ks.linalg import eigen
from deeph_zero.ks.linalg.eigen import Policy, projector, symmetric_eigen


def matrices(levels, seed=0):
    """Symmetric matrices of given eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(levels), len(levels[0]), len(levels[0]))
    q, _ = torch.linalg.qr(torch.randn(shape, generator=generator, dtype=torch.float64))
    return (q * torch.tensor(levels, dtype=torch.float64).unsqueeze(-2)) @ q.mT


LEVELS = [[-3.0, -1.2, -0.9, 0.4, 2.0], [-2.0, -0.1, 0.3, 0.5, 1.0]]
NOCC = torch.tensor([3, 1])


@pytest.fixture
def purify(monkeypatch):
    monkeypatch.setitem(eigen.POLICY, "cpu", Policy(projector="purify"))


def test_only_the_lower_triangle_is_read():
    fock = matrices(LEVELS)
    values, vectors = symmetric_eigen(fock.tril())
    torch.testing.assert_close(
        values, torch.tensor(LEVELS, dtype=torch.float64), rtol=0, atol=1e-12
    )
    torch.testing.assert_close((vectors * values.unsqueeze(-2)) @ vectors.mT, fock)


def test_projectors_fill_each_matrix_with_its_own_number():
    fock = matrices(LEVELS)
    found = projector(fock, NOCC)
    torch.testing.assert_close(found @ found, found, rtol=0, atol=1e-13)
    traces = torch.einsum("bij,bji->b", found, fock)
    torch.testing.assert_close(
        traces, torch.tensor([-5.1, -2.0], dtype=torch.float64), rtol=0, atol=1e-12
    )


@pytest.mark.usefixtures("purify")
def test_purification_gives_the_same_and_gives_up_without_a_gap(monkeypatch):
    fock = matrices(LEVELS)
    asked = []

    def counted(matrix):
        asked.append(len(matrix))
        return torch.linalg.eigh(matrix)

    monkeypatch.setitem(eigen._SOLVERS, "torch", counted)
    found = projector(fock, NOCC)
    assert not asked
    monkeypatch.setitem(eigen.POLICY, "cpu", Policy())
    torch.testing.assert_close(found, projector(fock, NOCC), rtol=0, atol=1e-9)
    monkeypatch.setitem(eigen.POLICY, "cpu", Policy(projector="purify"))
    asked.clear()
    touching = matrices([LEVELS[0], [-2.0, 0.3, 0.3, 0.5, 1.0]])
    mixed = projector(touching, torch.tensor([3, 2]))
    assert asked == [1]  # the second alone
    assert float(mixed[1].diagonal().sum()) == pytest.approx(2.0)


def test_small_matrices_are_diagonalised_all_the_same(monkeypatch):
    monkeypatch.setitem(eigen.POLICY, "cpu", Policy(projector="purify", purify_above=5))
    monkeypatch.setattr(eigen, "purified_density", None)  # would be an error
    assert projector(matrices(LEVELS), NOCC).shape == (2, 5, 5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(bad):
    fock = matrices(LEVELS)
    fock[1, 2, 0] = bad
    with pytest.raises(ComputationError, match="a finite Fock matrix was expected"):
        symmetric_eigen(fock)
    with pytest.raises(ComputationError, match="finite"):
        projector(fock, NOCC)


def test_a_solver_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(eigen.POLICY, "cpu", Policy(eigen="cupy"))
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    with pytest.raises(InputError, match="'cupy' expected CuPy, which is not installed"):
        symmetric_eigen(matrices(LEVELS))
