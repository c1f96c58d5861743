"""Exact exchange: coefficients, factors of spin, several operators, and stacks of molecules."""

import pytest
import torch

from deeph_zero.ks.terms.exchange import Exchange
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.term import Density

from ..made_up import ks_data, random  # noqa: TID252  (tests are no package)

NAO = 4


def density(nspin, n=NAO, seed=1):
    a = random(nspin, n, n, seed=seed)
    return Density(a + a.mT)


def test_a_pure_functional_has_none():
    assert Exchange.of(ks_data()) is None


@pytest.mark.parametrize(("nspin", "share"), [(1, -0.5), (2, -1.0)])
def test_energy_and_matrix_are_the_sums(operator, nspin, share):
    fitted, written = operator(NAO)
    at = density(nspin)
    found = Exchange.of(ks_data(NAO, exchange=((0.25, fitted),))).energy_and_fock(at)
    vk = share * 0.25 * written.exchange(at.dm)
    torch.testing.assert_close(found.fock, vk)
    assert float(found.energy) == pytest.approx(0.5 * float((vk * at.dm).sum()), rel=1e-12)


def test_a_closed_shell_is_two_equal_spins(operator):
    term = Exchange([(0.3, operator(NAO)[0])])
    closed = density(1)
    opened = Density(closed.dm.expand(2, -1, -1) / 2)
    one, other = (term.energy_and_fock(x) for x in (closed, opened))
    assert float(one.energy) == pytest.approx(float(other.energy), rel=1e-12)
    torch.testing.assert_close(one.fock.expand(2, -1, -1), other.fock)


@pytest.mark.parametrize("nspin", [1, 2])
def test_operators_add_up(operator, nspin):
    """Range separation: the whole of one operator less a part of another."""
    first, second = (operator(NAO, seed=s)[0] for s in (0, 5))
    at, along = density(nspin), density(nspin, seed=9)
    both = Exchange([(1.0, first), (-0.4, second)])
    singles = [Exchange([(1.0, first)]), Exchange([(-0.4, second)])]
    torch.testing.assert_close(
        both.energy_and_fock(at).fock, sum(x.energy_and_fock(at).fock for x in singles)
    )
    torch.testing.assert_close(
        both.response(at, along), sum(x.response(at, along) for x in singles)
    )


def test_changes_need_not_be_positive(operator):
    """A change has no orbitals: its factors are not asked for."""
    fitted, written = operator(NAO)
    along = density(1, seed=2)
    found = Exchange([(1.0, fitted)]).response(density(1), along)
    torch.testing.assert_close(found, -0.5 * written.exchange(along.dm))
    assert "factors" not in vars(along)


@pytest.mark.parametrize("coefficients", [(0.25, 0.25), (0.25, 0.6)], ids=["one", "each its own"])
def test_stacks_of_unlike_coefficients(operator, coefficients):
    padding = Padding([NAO, 2])
    parts = [operator(NAO)[0], operator(2, seed=3)[0]]
    terms = [Exchange([(c, p)]) for c, p in zip(coefficients, parts, strict=True)]
    dms = [density(2).dm, density(2, 2, seed=8).dm]
    stack = Exchange.stacked(terms, padding)
    found = stack.energy_and_fock(Density(padding.stack(dms), factored=False))
    for k, (term, dm) in enumerate(zip(terms, dms, strict=True)):
        alone, n = term.energy_and_fock(Density(dm)), dm.shape[-1]
        torch.testing.assert_close(found.energy[k], alone.energy)
        torch.testing.assert_close(found.fock[k, :, :n, :n], alone.fock)
        assert not found.fock[k, :, n:].any()


def test_molecules_with_unlike_numbers_of_operators_do_not_stack(operator):
    fitted = operator(2)[0]
    terms = [Exchange([(1.0, fitted)]), Exchange([(1.0, fitted), (0.5, fitted)])]
    with pytest.raises(ValueError, match="zip"):
        Exchange.stacked(terms, Padding([2, 2]))
