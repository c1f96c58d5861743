"""Densities and what terms share of them, a term's defaults, and a term of unlike molecules."""

import pytest
import torch

from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.term import Contribution, Density, OneByOne, Term, trace

from ..made_up import random  # noqa: TID252  (tests are no package)


def symmetric(*shape, seed=0):
    a = random(*shape, seed=seed)
    return a + a.mT


class Square(Term):
    """c tr(P²) of each spin: the energy, its derivative, and no second one."""

    name, on_grid = "square", True

    def __init__(self, factor):
        self.factor = factor

    def energy_and_fock(self, at):
        return Contribution(self.factor * trace(at.dm, at.dm), 2 * self.factor * at.dm)

    def response(self, at, along):
        del at
        return 2 * self.factor * along.dm


class Bare(Term):
    name = "bare"

    def energy_and_fock(self, at):
        return Contribution(at.dm.new_zeros(()), None)


@pytest.mark.parametrize("nspin", [1, 2])
def test_a_density_knows_its_spins(nspin):
    dm = symmetric(nspin, 3, 3)
    density = Density(dm)
    assert density.occupation == 3 - nspin
    assert density.total.shape == (1, 3, 3)
    torch.testing.assert_close(density.total[0], dm.sum(0))
    for (columns, signs), one in zip(density.factors, dm, strict=True):
        torch.testing.assert_close((columns * signs) @ columns.mT, one)


def test_a_closed_shells_total_is_itself():
    dm = symmetric(1, 2, 2)
    assert Density(dm).total is dm


def test_densities_of_stacks_and_crystals():
    stack = Density(symmetric(4, 2, 3, 3), factored=False)
    assert stack.total.shape == (4, 1, 3, 3)
    assert (stack.occupation, stack.factors) == (1, None)
    bloch = torch.complex(random(2, 5, 3, 3), random(2, 5, 3, 3, seed=1))
    crystal = Density.at_k_points(bloch + bloch.mH)
    assert crystal.total.shape == (1, 5, 3, 3)
    assert (crystal.occupation, crystal.factors) == (1, None)


def test_what_is_not_finite_has_no_factors():
    dm = symmetric(1, 2, 2)
    dm[0, 0, 0] = float("nan")
    assert Density(dm).factors is None


def test_a_term_is_constant_until_it_says_otherwise():
    term, at, along = Bare(), Density(symmetric(1, 2, 2)), Density(symmetric(1, 2, 2, seed=1))
    assert term.response(at, along) is None
    assert term.second(at, along, along) is None
    assert term.linearised(at)([along, along]) == [None, None]
    assert not term.on_grid


def test_prepared_responses_are_those_one_by_one():
    at, changes = Density(symmetric(2, 3, 3)), [Density(symmetric(2, 3, 3, seed=k)) for k in (1, 2)]
    for found, one in zip(Square(0.3).linearised(at)(changes), changes, strict=True):
        torch.testing.assert_close(found, 0.6 * one.dm)


def test_a_term_needs_an_energy():
    with pytest.raises(TypeError, match="energy_and_fock"):
        Term()


def test_traces_are_sums_over_spins_of_each_molecule():
    a, b = symmetric(2, 2, 3, 3), symmetric(2, 2, 3, 3, seed=5)
    wanted = torch.stack([sum(torch.trace(x @ y) for x, y in zip(*m, strict=True))
                          for m in zip(a, b, strict=True)])  # fmt: skip
    torch.testing.assert_close(trace(a, b), wanted)
    torch.testing.assert_close(trace(a[0], b[0]), wanted[0])


@pytest.mark.parametrize("nspin", [1, 2])
def test_a_stack_of_unlike_molecules_is_worked_on_one_by_one(nspin):
    """The second molecule lacks the term."""
    padding = Padding([2, 4, 3])
    terms = [Square(0.5), None, Square(2.0)]
    stack = Square.stacked(terms, padding)
    assert isinstance(stack, OneByOne)
    assert (stack.name, stack.on_grid) == ("square", True)
    dms = [symmetric(nspin, n, n, seed=n) for n in padding.naos]
    along = [symmetric(nspin, n, n, seed=9 + n) for n in padding.naos]
    at, change = (Density(padding.stack(x), factored=False) for x in (dms, along))
    found, moved = stack.energy_and_fock(at), stack.response(at, change)
    assert stack.second(at, change, change) is None
    for k, (term, dm, d) in enumerate(zip(terms, dms, along, strict=True)):
        n = dm.shape[-1]
        if term is None:
            assert float(found.energy[k]) == 0
            assert not found.fock[k].any()
            assert not moved[k].any()
            continue
        alone = term.energy_and_fock(Density(dm))
        assert float(found.energy[k]) == pytest.approx(float(alone.energy), rel=1e-13)
        torch.testing.assert_close(found.fock[k, :, :n, :n], alone.fock)
        torch.testing.assert_close(moved[k, :, :n, :n], term.response(None, Density(d)))
        assert not found.fock[k, :, n:].any()
        assert not found.fock[k, ..., n:].any()


def test_a_stack_of_constants_has_no_matrix():
    padding = Padding([2, 3])
    stack = OneByOne([Bare(), None], padding)
    at = Density(torch.zeros(2, 1, 3, 3, dtype=torch.float64), factored=False)
    found = stack.energy_and_fock(at)
    assert found.fock is None
    assert found.energy.tolist() == [0, 0]
    assert stack.response(at, at) is None
