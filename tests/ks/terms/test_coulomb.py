"""Classical repulsion: J of the total density, for either spin treatment."""

import pytest
import torch

from deeph_zero.ks.terms.coulomb import Coulomb
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.term import Density

from ..made_up import ks_data, random  # noqa: TID252  (tests are no package)

NAO = 4


def density(nspin, n=NAO, seed=1):
    a = random(nspin, n, n, seed=seed)
    return Density(a + a.mT)


@pytest.mark.parametrize("nspin", [1, 2])
def test_energy_and_matrix_are_the_sums(operator, nspin):
    fitted, written = operator(NAO)
    at = density(nspin)
    found = Coulomb.of(ks_data(NAO, coulomb=fitted)).energy_and_fock(at)
    vj = written.coulomb(at.dm.sum(0))
    torch.testing.assert_close(found.fock, vj[None])
    assert float(found.energy) == pytest.approx(0.5 * float((vj * at.dm.sum(0)).sum()), rel=1e-12)


def test_a_spin_flip_changes_nothing(operator):
    term = Coulomb(operator(NAO)[0])
    flip = density(2)
    flip.dm[1] = -flip.dm[0]
    assert float(term.response(density(2, seed=3), flip).abs().max()) < 1e-12
    both = term.energy_and_fock(density(2)).energy
    swapped = Density(density(2).dm.flip(0))
    assert float(term.energy_and_fock(swapped).energy) == pytest.approx(float(both), rel=1e-13)


@pytest.mark.parametrize("nspin", [1, 2])
def test_changes_at_once_are_changes_one_by_one(operator, nspin):
    term, at = Coulomb(operator(NAO)[0]), density(nspin)
    changes = [density(nspin, seed=s) for s in (4, 5, 6)]
    many = term.linearised(at)(changes)
    assert len(many) == 3
    for found, one in zip(many, changes, strict=True):
        torch.testing.assert_close(found, term.response(at, one))
    assert term.second(at, *changes[:2]) is None


def test_a_stack_shares_its_operator(operator):
    """The same integrals of J and K are in memory once."""
    padding = Padding([NAO, 2])
    parts = [operator(NAO)[0], operator(2, seed=3)[0]]
    one, other = (Coulomb.stacked([Coulomb(p) for p in parts], padding) for _ in "ab")
    assert one.operator is other.operator
    dms = [density(2).dm, density(2, 2, seed=8).dm]
    found = one.energy_and_fock(Density(padding.stack(dms), factored=False))
    for k, (part, dm) in enumerate(zip(parts, dms, strict=True)):
        alone = Coulomb(part).energy_and_fock(Density(dm))
        n = dm.shape[-1]
        torch.testing.assert_close(found.energy[k], alone.energy)
        torch.testing.assert_close(found.fock[k, :, :n, :n], alone.fock)
