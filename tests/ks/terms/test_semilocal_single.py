"""A semilocal term whose products are in single precision: how close it is, and to what."""

import dataclasses

import pytest
import torch

from deeph_zero.ks.protocol import NonlocalCorrelation, Points
from deeph_zero.ks.terms import semilocal
from deeph_zero.ks.terms.semilocal import Semilocal
from deeph_zero.ks.terms.semilocal_single import SingleSemilocal, single_semilocal
from deeph_zero.ks.terms.term import Density

from ..made_up import Blocks, Quartic, ks_data, random  # noqa: TID252  (tests are no package)

NAO = 6
ORBITALS = random(2, NAO, 2, seed=7)


class Singles(Blocks):
    """Blocks that come in single precision as well."""

    def shape(self, b):
        return self.sizes[b], self.nao - b % 2

    def single(self, b):
        block = self.block(b)
        return dataclasses.replace(block, ao=block.rows.float().mT)


GRID = Singles(NAO, (7, 3, 9, 2, 8))


def at(change, factored=True):
    orbitals = ORBITALS + change * random(2, NAO, 2, seed=9)
    return Density(orbitals @ orbitals.mT, factored=factored)


def off(found, wanted):
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("factored", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_it_is_the_term_to_single_precision(factored, threads, monkeypatch):
    monkeypatch.setattr(semilocal, "SHARED_VALUES", 1)
    monkeypatch.setattr(semilocal, "available_threads", lambda: threads)
    exact, single = Semilocal(Quartic(), GRID), SingleSemilocal(Semilocal(Quartic(), GRID))
    for change in (0.0, 0.3, 0.1):
        wanted = exact.energy_and_fock(at(change))
        found = single.energy_and_fock(at(change, factored))
        for one, other in zip(found[:3], wanted[:3], strict=True):
            assert one.dtype == torch.float64
            assert one.shape == other.shape
            assert off(one, other) < 2e-6
        assert off(found.fock, wanted.fock) > 0


class Level(Quartic):
    """f = ρ + 1e-6 ρ² / 2: a potential that hardly depends on the density."""

    kind = "LDA"

    def gradient(self, rho):
        n = rho[:, 0]
        return (n + 5e-7 * n**2).sum(0), (1 + 1e-6 * n).unsqueeze(1)


def test_near_densities_are_told_apart_better_than_either_is_known():
    grid = Singles(NAO, (3000, 2000))
    exact, single = Semilocal(Level(), grid), SingleSemilocal(Semilocal(Level(), grid))
    wanted, found = (
        [term.energy_and_fock(at(change)).fock for change in (0.0, 0.1)] for term in (exact, single)
    )
    errors = [one - other for one, other in zip(found, wanted, strict=True)]
    assert (errors[1] - errors[0]).abs().max() < 1e-3 * min(one.abs().max() for one in errors)


def test_a_matrix_stays_what_it_was_when_the_next_is_made():
    single = SingleSemilocal(Semilocal(Quartic(), GRID))
    first = single.energy_and_fock(at(0.0)).fock
    before = first.clone()
    single.energy_and_fock(at(0.5))
    assert torch.equal(first, before)


def test_only_a_grid_with_such_values_and_no_non_local_term_has_one():
    data = ks_data(NAO, functional=Quartic(), grid=GRID)
    assert isinstance(single_semilocal(data), SingleSemilocal)
    points = Points(coords=random(GRID.ngrids, 3), weights=random(GRID.ngrids))
    nlc = NonlocalCorrelation(grid=GRID, points=points, terms=())
    for changes in ({"grid": Blocks(NAO, (7, 3))}, {"functional": None}, {"nlc": nlc}):
        assert single_semilocal(dataclasses.replace(data, **changes)) is None
