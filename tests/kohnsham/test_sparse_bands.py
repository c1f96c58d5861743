"""Levels of sparse blocks, by factorisation and by a dense solver, against numpy's."""

import numpy as np
import pytest
import scipy.linalg
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.kohnsham import sparse_bands
from deeph_zero.kohnsham.sparse_bands import SparseLevels

SIZES = (2, 1, 3) * 4
KPTS = [(0.0, 0.0, 0.0), (0.21, 0.0, 0.0), (0.5, 0.0, 0.0)]
WEIGHTS = (0.25, 0.5, 0.25)


def blocks(seed, scale, *, spins=(), diagonal=0.0):
    """A chain of atoms whose neighbours, one of them in the next cell, are coupled."""
    generator = torch.Generator().manual_seed(seed)
    n = len(SIZES)
    pairs = [(i, i) for i in range(n)] + [(i, (i + 1) % n) for i in range(n)]
    cells = [[0, 0, 0]] * n + [[int(i == n - 1), 0, 0] for i in range(n)]
    made = []
    for i, j in pairs:
        one = scale * torch.randn(*spins, SIZES[i], SIZES[j], generator=generator,
                                  dtype=torch.float64)  # fmt: skip
        made.append(one + diagonal * torch.eye(SIZES[i]).double() if i == j else one)
    return BlockMatrix.from_blocks(
        torch.tensor(pairs), torch.tensor(cells), made, SIZES
    ).completed().hermitian()  # fmt: skip


def hamiltonian(spins=()):
    return blocks(1, 0.5, spins=spins)


@pytest.fixture(params=["dense", "factorised"])
def few(request, monkeypatch):
    monkeypatch.setattr(sparse_bands, "FEW", 400 if request.param == "dense" else 4)


def exact(h, s, spin=0):
    kpts = torch.tensor(KPTS, dtype=torch.float64)
    hs, ss = h.at_k(kpts), s.at_k(kpts)
    hs = hs if hs.ndim == 4 else hs.unsqueeze(0)
    return [scipy.linalg.eigvalsh(a.numpy(), b.numpy()) for a, b in zip(hs[spin], ss, strict=True)]


@pytest.mark.usefixtures("few")
def test_levels_near_an_energy_and_below_it():
    h, s = hamiltonian((2,)), blocks(2, 0.03, diagonal=1.0)
    found = SparseLevels(h, s)
    for spin in range(2):
        for k, levels in zip(KPTS, exact(h, s, spin), strict=True):
            near = found.at(k, 5, 0.1)[spin]
            wanted = np.sort(levels[np.argsort(abs(levels - 0.1))[:5]])
            np.testing.assert_allclose(near.energies, wanted, atol=1e-6)
            assert near.first == int((levels < wanted[0] - 1e-9).sum())
            edges = [-1.0, 0.0, 0.4]
            assert found.count(k, edges)[spin].tolist() == [int((levels < e).sum()) for e in edges]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("smearing", [0.0, 0.004])
def test_the_frontier_is_that_of_all_levels(smearing):
    h, s = hamiltonian(), blocks(2, 0.03, diagonal=1.0)
    found = SparseLevels(h, s).frontier(KPTS, WEIGHTS, 22.0, smearing=smearing, count=16, start=2.0)
    ladder = np.concatenate(exact(h, s))
    weights = np.repeat(WEIGHTS, len(ladder) // 3)
    order = np.argsort(ladder)
    ladder, filled = ladder[order], np.cumsum(weights[order])
    last = int(np.searchsorted(filled, 11 - 1e-9))
    if smearing:
        f = 1 / (1 + np.exp(np.clip((ladder - found.fermi) / smearing, -500, 500)))
        assert float(f @ weights[order]) == pytest.approx(11, abs=1e-4)
        assert found.homo <= found.fermi < found.lumo
    else:
        partly = filled[last] > 11 + 1e-9
        assert found.homo == pytest.approx(ladder[last], abs=1e-6)
        assert found.lumo == pytest.approx(ladder[last if partly else last + 1], abs=1e-6)


def test_states_between_edges_are_all_states():
    h, s = hamiltonian(), blocks(2, 0.03, diagonal=1.0)
    edges = [-20.0, -0.5, 0.3, 20.0]
    dos = SparseLevels(h, s).density_of_states(KPTS, WEIGHTS, edges)
    assert float((dos[0] * np.diff(edges)).sum()) == pytest.approx(h.nao)
    counted = [np.histogram(levels, edges)[0] for levels in exact(h, s)]
    np.testing.assert_allclose(dos[0] * np.diff(edges), np.average(counted, 0, WEIGHTS))


def test_what_cannot_be_solved_is_said():
    h, s = hamiltonian(), blocks(2, 0.03, diagonal=1.0)
    with pytest.raises(ComputationError, match=r"between the 2 levels .* ask for more"):
        SparseLevels(h, s).frontier(KPTS, WEIGHTS, 22.0, smearing=0.05, count=2)
    with pytest.raises(InputError, match="overlap with eigenvalues above"):
        SparseLevels(h, blocks(2, 0.03, diagonal=-1.0)).count(KPTS[1], [0.0])
    other = BlockMatrix.from_dense(torch.eye(3).double(), (1, 2))
    with pytest.raises(InputError, match="H and S of the same orbitals, got 24 and 3"):
        SparseLevels(h, other)
