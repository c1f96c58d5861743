"""A functional on stacked grids: what each molecule's own term gives."""

import pytest
import torch

from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.semilocal import Semilocal
from deeph_zero.ks.terms.semilocal_padded import PaddedSemilocal
from deeph_zero.ks.terms.term import Density

from ..made_up import Blocks, Quartic, random  # noqa: TID252  (tests are no package)

GRIDS = [Blocks(3, (5, 2)), Blocks(5, (4, 4, 1)), Blocks(1, (3,))]
PADDING = Padding([grid.nao for grid in GRIDS])


def matrices(nspin, seed):
    out = []
    for k, n in enumerate(PADDING.naos):
        a = random(nspin, n, n, seed=seed + k)
        out.append(a + a.mT)
    return out


@pytest.mark.parametrize("nspin", [1, 2])
def test_every_number_is_that_of_the_molecule_alone(nspin):
    term = PaddedSemilocal(Quartic(), GRIDS, PADDING)
    assert (term.name, term.on_grid) == (Semilocal.name, True)
    own = [matrices(nspin, seed) for seed in (10, 20, 30)]
    at, d1, d2 = (Density(PADDING.stack(x), factored=False) for x in own)
    found = term.energy_and_fock(at)
    changes = term.response(at, d1), term.second(at, d1, d2)
    for k, grid in enumerate(GRIDS):
        alone = Semilocal(Quartic(), grid)
        dm, one, two = (Density(x[k], factored=False) for x in own)
        wanted = alone.energy_and_fock(dm)
        torch.testing.assert_close(found.energy[k], wanted.energy)
        torch.testing.assert_close(found.electrons[k], wanted.electrons)
        n = grid.nao
        singles = wanted.fock, alone.response(dm, one), alone.second(dm, one, two)
        for many, single in zip((found.fock, *changes), singles, strict=True):
            assert float(single.abs().max()) > 1e-3
            torch.testing.assert_close(many[k, :, :n, :n], single)
            assert not many[k, :, n:].any()


def test_a_stack_of_semilocal_terms_is_one():
    terms = [Semilocal(Quartic(), grid) for grid in GRIDS]
    assert isinstance(Semilocal.stacked(terms, PADDING), PaddedSemilocal)
