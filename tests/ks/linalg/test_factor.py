"""Orbitals of a density matrix, and the grid maps and K that are made from them."""

import dataclasses

import pytest
import torch

from deeph_zero.ks.grid.maps import (
    density_features,
    orbital_features,
    panels,
    potential_matrix,
)
from deeph_zero.ks.linalg.factor import occupied_columns, spectral_factor, spectral_factors
from deeph_zero.ks.linalg.packed import pair_index
from deeph_zero.ks.protocol import AOBlock
from deeph_zero.ks.terms import semilocal
from deeph_zero.ks.terms.semilocal import block_groups
from deeph_zero.ks.terms.two_electron import FittedTensor

NAO, NPOINTS = 110, 37


def normal(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


@pytest.fixture
def orbitals(rng):
    return normal(rng, NAO, 5)


@pytest.fixture
def block(rng):
    return AOBlock(ao=normal(rng, 4, NPOINTS, NAO), index=None, weights=normal(rng, NPOINTS))


def close(a, b):
    return float((a - b).abs().max()) < 1e-12 * float(b.abs().max())


def test_factor_gives_the_matrix_back(rng, orbitals):
    symmetric = normal(rng, NAO, NAO)
    symmetric = symmetric + symmetric.mT
    columns, signs = spectral_factor(symmetric)
    assert close((columns * signs) @ columns.mT, symmetric)
    assert {-1.0, 1.0} == set(signs.tolist())
    found = occupied_columns(spectral_factor(orbitals @ orbitals.mT))
    assert found.shape == (NAO, 8)
    assert close(found @ found.mT, orbitals @ orbitals.mT)


def test_no_orbitals_where_they_would_be_wrong_or_too_many(orbitals):
    dm = orbitals @ orbitals.mT
    one = torch.eye(NAO, dtype=torch.float64)
    assert occupied_columns(spectral_factor(dm - 3.0 * one)) is None
    assert occupied_columns(spectral_factor(dm + 0.1 * one)) is None
    assert spectral_factors(torch.full_like(dm, torch.nan)) is None
    assert occupied_columns(spectral_factor(torch.zeros_like(dm))).shape[1] == 0


@pytest.mark.parametrize("kind", ["LDA", "GGA", "MGGA"])
def test_orbital_features_are_those_of_the_density_matrix(block, orbitals, kind):
    want = density_features(block, orbitals @ orbitals.mT, kind)
    assert close(orbital_features(block, orbitals, kind), want)


@pytest.mark.parametrize("kind", ["LDA", "GGA", "MGGA"])
def test_potential_matrix_is_the_adjoint(block, rng, kind):
    dm = normal(rng, 2, NAO, NAO)
    dm = dm + dm.mT
    features = density_features(block, dm, kind)
    potential = normal(rng, *features.shape)
    matrix = potential_matrix(block, potential, kind)
    assert float((matrix * dm).sum()) == pytest.approx(float((potential * features).sum()), 1e-12)
    assert close(matrix, matrix.mT)


def test_panels_cover_every_column():
    for size in (1, 24, 47, 110, 222):
        edges = panels(size)
        assert [n for a, b in edges for n in range(a, b)] == list(range(size))


@pytest.mark.parametrize("memory_mb", [1000.0, 0.5])
def test_exchange_of_definite_and_indefinite_matrices(rng, orbitals, memory_mb):
    cderi = normal(rng, 70, NAO * (NAO + 1) // 2)
    full = cderi[:, pair_index(NAO, cderi.device)]
    symmetric = normal(rng, NAO, NAO)
    operator = FittedTensor(cderi, NAO, memory_mb=memory_mb)
    for dm in (orbitals @ orbitals.mT, symmetric + symmetric.mT):
        want = torch.einsum("lmi,lin->mn", full @ dm, full)
        assert close(operator.exchange(dm), want)


class Blocks:
    """A grid of blocks without AO values worth looking at."""

    nao, ngrids = 2, 0

    def __init__(self, sizes):
        self._blocks = [
            AOBlock(ao=torch.ones(1, n, 2).double(), index=None, weights=torch.ones(n).double())
            for n in sizes
        ]
        self.n_blocks = len(sizes)

    def block(self, k):
        return self._blocks[k]


def test_groups_keep_the_order_and_the_bound():
    sizes = [20000, 10000, 5000, 40000, 3]
    groups = [[len(b.weights) for b in group] for group in block_groups(Blocks(sizes))]
    assert groups == [[20000, 10000], [5000], [40000], [3]]


@pytest.mark.parametrize(("kept", "longest"), [(True, 4), (False, 2)])
def test_values_that_the_grid_does_not_hold_are_few_at_a_time(monkeypatch, kept, longest):
    grid = Blocks([5000] * 8)
    grid._blocks = [dataclasses.replace(block, kept=kept) for block in grid._blocks]
    monkeypatch.setattr(semilocal, "GROUP_POINTS", 20000)
    monkeypatch.setattr(semilocal, "GROUP_MEMORY_MB", 2 * 8 * 10000 / 1e6)
    assert max(len(group) for group in block_groups(grid)) == longest
