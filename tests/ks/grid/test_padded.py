"""Grids of several molecules in stacks: the numbers of one molecule after another."""

import pytest
import torch

from deeph_zero.ks.grid import padded
from deeph_zero.ks.grid.padded import PaddedGrid
from deeph_zero.ks.terms.semilocal import Semilocal
from deeph_zero.ks.terms.term import Density
from deeph_zero.ks.xc.registry import combine

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


@pytest.mark.parametrize("name", ["LDA_C_PW", "GGA_C_PBE", "MGGA_X_R2SCAN"])
@pytest.mark.parametrize("nspin", [1, 2])
def test_every_kind_of_functional(nspin, name):
    """Densities of orbitals, so that all variables are those of electrons."""
    functional = combine([(name, 1.0)], unrestricted=nspin == 2)
    dm = torch.zeros(3, nspin, max(NAO), max(NAO), dtype=torch.float64)
    for k, n in enumerate(NAO):
        c = random(nspin, n, n, seed=80 + k)
        dm[k, :, :n, :n] = c @ c.mT
    fock, energy, electrons = PaddedGrid(GRIDS, max(NAO)).potential(functional, dm)
    for k, (n, grid) in enumerate(zip(NAO, GRIDS, strict=True)):
        own = Density(dm[k, :, :n, :n].contiguous(), factored=False)
        wanted = Semilocal(functional, grid).energy_and_fock(own)
        torch.testing.assert_close(energy[k], wanted.energy)
        torch.testing.assert_close(electrons[k], wanted.electrons)
        torch.testing.assert_close(fock[k, :, :n, :n], wanted.fock)


def stack_widths(grids, nao):
    """Columns of each stack, and how many blocks are in it."""
    return [(s.ao.shape[-1], len(s.weights)) for s in PaddedGrid(grids, nao)._stacks]


def test_blocks_join_a_stack_of_about_their_width():
    wide, narrow, tiny = Blocks(10, (3,)), Blocks(8, (5,)), Blocks(3, (4,))
    assert stack_widths([tiny, wide, narrow], 10) == [(10, 2), (3, 1)]
    assert stack_widths([wide] * 3, 10) == [(10, 3)]


def test_a_stack_has_room_for_so_many_values(monkeypatch):
    one = Blocks(4, (6,))
    values = 8 * 4 * 6 * 4 / 1e6  # of one block, MB
    monkeypatch.setattr(padded, "STACK_MB", 2.5 * values)
    assert stack_widths([one] * 5, 4) == [(4, 2), (4, 2), (4, 1)]
