"""Grids of several molecules in stacks: the numbers of one molecule after another."""

import pytest
import torch

from deeph_zero.ks.grid import padded
from deeph_zero.ks.grid.padded import PaddedGrid
from deeph_zero.ks.terms.semilocal import Semilocal
from deeph_zero.ks.terms.term import Density

from ..made_up import Blocks, Quartic, random  # noqa: TID252  (tests are no package)

NAO = (4, 2, 5)
GRIDS = [Blocks(4, (6, 3)), Blocks(2, (4,)), Blocks(5, (2, 7, 5))]


def stacks(nspin, count):
    """Padded matrices of all molecules, and each one's own."""
    wide = torch.zeros(count, 3, nspin, max(NAO), max(NAO), dtype=torch.float64)
    for k, n in enumerate(NAO):
        a = random(count, nspin, n, n, seed=70 + k)
        wide[:, k, :, :n, :n] = a + a.mT
    return wide


@pytest.mark.parametrize("stack_mb", [256.0, 1e-3])
@pytest.mark.parametrize("nspin", [1, 2])
def test_stacks_are_one_molecule_after_another(nspin, stack_mb, monkeypatch):
    monkeypatch.setattr(padded, "STACK_MB", stack_mb)
    whole, (dm, d1, d2) = PaddedGrid(GRIDS, max(NAO)), stacks(nspin, 3)
    fock, energy, electrons = whole.potential(Quartic(), dm)
    changes = whole.response(Quartic(), dm, d1), whole.second(Quartic(), dm, d1, d2)
    for k, (n, grid) in enumerate(zip(NAO, GRIDS, strict=True)):
        term = Semilocal(Quartic(), grid)
        own = [Density(x[k, :, :n, :n].contiguous(), factored=False) for x in (dm, d1, d2)]
        wanted = term.energy_and_fock(own[0])
        torch.testing.assert_close(energy[k], wanted.energy)
        torch.testing.assert_close(electrons[k], wanted.electrons)
        singles = wanted.fock, term.response(*own[:2]), term.second(*own)
        for many, one in zip((fock, *changes), singles, strict=True):
            assert float(one.abs().max()) > 1e-2
            torch.testing.assert_close(many[k, :, :n, :n], one)
            assert not many[k, :, n:].any()
            assert not many[k, ..., n:].any()
