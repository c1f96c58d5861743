"""tr(hP): of either spin, and of stacks."""

import pytest
import torch

from deeph_zero.ks.terms.one_electron import OneElectron
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.term import Density

from ..made_up import ks_data, random  # noqa: TID252  (tests are no package)


def symmetric(*shape, seed=0):
    a = random(*shape, seed=seed)
    return a + a.mT


@pytest.mark.parametrize("nspin", [1, 2])
def test_both_spins_feel_the_same(nspin):
    h, dm = symmetric(3, 3), symmetric(nspin, 3, 3, seed=1)
    term = OneElectron.of(ks_data(3, hcore=h))
    found = term.energy_and_fock(Density(dm))
    assert float(found.energy) == pytest.approx(float(torch.trace(h @ dm.sum(0))), rel=1e-13)
    torch.testing.assert_close(found.fock, h[None], rtol=0, atol=0)
    assert term.response(Density(dm), Density(dm)) is None


def test_a_stack_has_each_ones_own():
    padding = Padding([2, 4])
    operators = [symmetric(n, n, seed=n) for n in padding.naos]
    terms = [OneElectron(h[None]) for h in operators]
    dms = [symmetric(2, n, n, seed=7 + n) for n in padding.naos]
    found = OneElectron.stacked(terms, padding).energy_and_fock(
        Density(padding.stack(dms), factored=False)
    )
    for k, (h, dm) in enumerate(zip(operators, dms, strict=True)):
        n = len(h)
        assert float(found.energy[k]) == pytest.approx(float((h * dm.sum(0)).sum()), rel=1e-12)
        torch.testing.assert_close(found.fock[k, 0, :n, :n], h, rtol=0, atol=0)
        assert not found.fock[k, :, n:].any()
