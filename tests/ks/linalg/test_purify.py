"""Purification against eigenvectors, and the policy that chooses between them."""

import sys
import types

import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.ks.linalg import eigen
from deeph_zero.ks.linalg.eigen import Policy, projector, symmetric_eigen
from deeph_zero.ks.linalg.purify import purified_density


def with_spectrum(levels, seed=0):
    """A symmetric matrix with these eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    n = len(levels)
    q, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return q * torch.tensor(levels, dtype=torch.float64) @ q.mT


def exact(fock, nocc):
    _, vectors = torch.linalg.eigh(fock)
    return vectors[:, :nocc] @ vectors[:, :nocc].mT


@pytest.mark.parametrize("gap", [1.0, 0.3, 0.02, 1e-3])
@pytest.mark.parametrize("nocc", [1, 5, 29])
def test_equals_the_eigenvectors_projector(gap, nocc):
    levels = np.sort(np.random.default_rng(nocc).uniform(-20, 3, 60))
    levels[nocc:] += gap
    fock = with_spectrum(levels.tolist())
    dm, converged = purified_density(fock, torch.tensor(nocc))
    assert bool(converged)
    torch.testing.assert_close(dm, exact(fock, nocc), rtol=0, atol=1e-10)
    torch.testing.assert_close(dm @ dm, dm, rtol=0, atol=1e-12)


def test_unlike_counts_in_one_batch_with_empty_and_full():
    fock = torch.stack([with_spectrum([-5.0, -1.0, 0.5, 2.0], seed) for seed in range(4)])
    counts = torch.tensor([0, 2, 3, 4])
    dm, converged = purified_density(fock, counts)
    assert converged.all()
    for k, n in enumerate(counts.tolist()):
        torch.testing.assert_close(dm[k], exact(fock[k], n), rtol=0, atol=1e-12)


def test_core_levels_far_below_cost_no_accuracy():
    levels = [-1176.0, -180.0, -170.0, -0.5, -0.4, 0.1, 0.3, 5.0, 80.0]
    fock = with_spectrum(levels)
    dm, converged = purified_density(fock, torch.tensor(5))
    assert bool(converged)
    torch.testing.assert_close(dm, exact(fock, 5), rtol=0, atol=1e-10)


def test_one_level_and_equal_levels():
    dm, converged = purified_density(
        torch.tensor([[[-0.5]], [[0.3]]]).double(), torch.tensor([1, 0])
    )
    assert converged.all()
    assert dm.flatten().tolist() == [1.0, 0.0]


def test_no_gap_is_told_and_the_policy_falls_back_to_eigenvectors(monkeypatch):
    monkeypatch.setitem(eigen.POLICY, "cpu", Policy(projector="purify"))
    gapless, gapped = [-2.0, 0.1, 0.1, 1.0], [-2.0, -1.0, 0.1, 1.0]
    fock = torch.stack([with_spectrum(gapless), with_spectrum(gapped, 1)])
    counts = torch.tensor([2, 2])
    _, converged = purified_density(fock, counts)
    assert converged.tolist() == [False, True]
    found = projector(fock, counts)
    for k in range(2):
        torch.testing.assert_close(found[k], exact(fock[k], 2), rtol=0, atol=1e-10)


def test_small_matrices_are_diagonalised(monkeypatch):
    def refuse(*_):
        raise AssertionError("purified")

    monkeypatch.setitem(eigen.POLICY, "cpu", Policy(projector="purify", purify_above=4))
    monkeypatch.setattr(eigen, "purified_density", refuse)
    fock = with_spectrum([-2.0, -1.0, 0.1, 1.0]).unsqueeze(0)
    torch.testing.assert_close(projector(fock, torch.tensor([2]))[0], exact(fock[0], 2))


def test_nan_is_an_error_in_both(monkeypatch):
    bad = torch.full((1, 3, 3), float("nan"), dtype=torch.float64)
    for method in ("eigen", "purify"):
        monkeypatch.setitem(eigen.POLICY, "cpu", Policy(projector=method))
        with pytest.raises(ComputationError, match="finite Fock matrix"):
            projector(bad, torch.tensor([1]))


def test_cupy_solver_is_handed_the_matrix_and_its_absence_is_told(monkeypatch):
    monkeypatch.setitem(eigen.POLICY, "cpu", Policy(eigen="cupy"))
    fock = with_spectrum([-2.0, -1.0, 0.1, 1.0])
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(InputError, match="not installed"):
        symmetric_eigen(fock)
    cupy = types.ModuleType("cupy")
    cupy.from_dlpack = np.from_dlpack  # pyright: ignore
    cupy.linalg = np.linalg  # pyright: ignore
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    values, vectors = symmetric_eigen(fock)
    torch.testing.assert_close(values.tolist(), [-2.0, -1.0, 0.1, 1.0])
    torch.testing.assert_close(vectors * values @ vectors.mT, fock)
