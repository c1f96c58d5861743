"""How a semilocal term goes over its grid: groups of blocks, second derivatives, threads."""

import pytest
import torch

from deeph_zero.ks.terms import semilocal
from deeph_zero.ks.terms.semilocal import Semilocal, block_groups, kernel
from deeph_zero.ks.terms.term import Density

from ..made_up import Blocks, Quartic, random  # noqa: TID252  (tests are no package)

NAO = 4
SIZES = (7, 3, 9, 2, 8)
GRID = Blocks(NAO, SIZES)


@pytest.fixture
def term():
    return Semilocal(Quartic(), GRID)


@pytest.fixture
def densities():
    orbitals = random(2, NAO, 2, seed=7)
    noise = random(2, 2, NAO, NAO, seed=8)
    dm = orbitals @ orbitals.mT
    return [Density(x) for x in (dm, noise[0] + noise[0].mT, noise[1] + noise[1].mT)]


def test_groups_hold_every_block_once(monkeypatch):
    monkeypatch.setattr(semilocal, "GROUP_POINTS", 11)
    groups = [[len(b.weights) for b in some] for some in block_groups(GRID)]
    assert [n for some in groups for n in some] == list(SIZES)
    assert all(sum(some) <= 11 or len(some) == 1 for some in groups)
    assert len(groups) > 2
    monkeypatch.setattr(semilocal, "GROUP_MEMORY_MB", 1e-9)
    assert [len(some) for some in block_groups(GRID)] == [1] * len(SIZES)


def test_a_kernel_is_all_second_derivatives():
    rho, d = random(2, 4, 6, seed=1), random(2, 4, 6, seed=2)
    found = kernel(Quartic(), rho)
    torch.testing.assert_close(found, found.transpose(0, 1))
    product = torch.einsum("ijp,jp->ip", found, d.reshape(8, -1)).reshape(rho.shape)
    torch.testing.assert_close(product, Quartic().second(rho, d))


def test_responses_prepared_once_are_those_made_anew(term, densities, monkeypatch):
    at, *changes = densities
    wanted = [term.response(at, one) for one in changes]
    for memory in (semilocal.KERNEL_MEMORY_MB, 0.0):  # kept, or too large to keep
        monkeypatch.setattr(semilocal, "KERNEL_MEMORY_MB", memory)
        for found, one in zip(term.linearised(at)(changes), wanted, strict=True):
            torch.testing.assert_close(found, one)


def test_derivatives_follow_each_other(term, densities):
    at, d1, d2 = densities

    def along(matrix_of, step=1e-3):
        f = [matrix_of(t * step) for t in (1, -1, 2, -2)]
        return (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * step)

    def moved(t, change):
        return Density(at.dm + t * change.dm, factored=False)

    slope = along(lambda t: term.energy_and_fock(moved(t, d1)).energy)
    fock = term.energy_and_fock(at).fock
    torch.testing.assert_close((fock * d1.dm).sum(), slope, rtol=1e-8, atol=0)
    response = along(lambda t: term.energy_and_fock(moved(t, d1)).fock)
    torch.testing.assert_close(term.response(at, d1), response, rtol=1e-8, atol=1e-8)
    second = along(lambda t: term.response(moved(t, d2), d1))
    torch.testing.assert_close(term.second(at, d1, d2), second, rtol=1e-8, atol=1e-8)


def test_threads_that_share_a_grid_add_up_to_one(term, densities, monkeypatch):
    alone = term.energy_and_fock(densities[0])
    monkeypatch.setattr(semilocal, "SHARED_VALUES", 1)
    monkeypatch.setattr(semilocal, "available_threads", lambda: 3)
    shared = term.energy_and_fock(densities[0])
    torch.testing.assert_close(shared.fock, alone.fock)
    torch.testing.assert_close(shared.energy, alone.energy)
    weights = torch.cat([GRID.block(b).weights for b in range(len(SIZES))])
    assert float(alone.electrons) > 0
    assert len(weights) == GRID.ngrids
