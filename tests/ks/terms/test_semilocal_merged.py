"""Grids of several molecules that share calls of the functional: the numbers of each alone."""

import pytest
import torch

from deeph_zero.ks.terms import semilocal, semilocal_merged
from deeph_zero.ks.terms.semilocal import Semilocal
from deeph_zero.ks.terms.semilocal_merged import energies_and_focks, is_small, responses
from deeph_zero.ks.terms.term import Density

from ..made_up import Blocks, Quartic, random  # noqa: TID252  (tests are no package)

GRIDS = [Blocks(4, (6, 3, 5)), Blocks(2, (4,)), Blocks(5, (2, 7, 5, 4))]


class Counted(Quartic):
    """Remembers how many points each call had."""

    def __init__(self):
        self.points = []

    def gradient(self, rho):
        self.points.append(rho.shape[-1])
        return super().gradient(rho)


@pytest.fixture(params=[1, 2])
def densities(request):
    """Some with few orbitals, through which the density is made, and changes with many."""
    out = []
    for k, grid in enumerate(GRIDS):
        c, noise = random(request.param, grid.nao, 2, seed=k), random(
            request.param, grid.nao, grid.nao, seed=30 + k)  # fmt: skip
        out.append((Density(c @ c.mT), Density(noise + noise.mT)))
    return out


@pytest.mark.parametrize("limit", [12288, 9])
@pytest.mark.parametrize("threads", [1, 3])
def test_several_are_each_alone(densities, limit, threads, monkeypatch):
    monkeypatch.setattr(semilocal, "GROUP_POINTS", limit)
    for module in (semilocal, semilocal_merged):
        monkeypatch.setattr(module, "available_threads", lambda: threads, raising=False)
    monkeypatch.setattr(semilocal, "SHARED_VALUES", 1 if threads > 1 else 600_000)
    functional = Counted()
    terms = [Semilocal(functional, grid) for grid in GRIDS]
    at, along = zip(*densities, strict=True)
    found, changes = energies_and_focks(terms, at), responses(terms, at, along)
    assert sum(functional.points) == sum(grid.ngrids for grid in GRIDS)
    if limit > 9 and threads == 1:
        assert len(functional.points) == 1  # one call for all
    for term, own, one, change, d in zip(terms, at, found, changes, along, strict=True):
        alone = term.energy_and_fock(own)
        assert float(alone.fock.abs().max()) > 1e-2
        for many, single in zip(one[:3], alone[:3], strict=True):
            torch.testing.assert_close(many, single)
        torch.testing.assert_close(change, term.response(own, d))


def test_large_grids_are_left_alone(monkeypatch):
    term = Semilocal(Quartic(), GRIDS[0])
    assert is_small(term)
    monkeypatch.setattr(semilocal_merged, "MERGE_POINTS", 13)
    assert not is_small(term)
