"""The coarse quadrature beside the target grid: its size, and where there is none."""

import pytest
import torch
from pyscf import gto

from deeph_zero.integrals.coarse import LADDER, SMALLER, CoarseSource, coarse_atom_grids
from deeph_zero.integrals.grids import AOGrid, build_grid


def source(atom, level, deriv=1):
    mol = gto.M(atom=atom, basis="sto-3g", spin=None, verbose=0)
    target = AOGrid(mol, build_grid(mol, level), deriv=deriv)
    return CoarseSource(mol, deriv=deriv, target=target), target


def test_points_follow_the_period():
    mol = gto.M(atom="H 0 0 0; C 0 0 2; ghost-Br 0 2 0; I 3 0 0", basis="def2-svp", ecp="def2-svp",
                spin=None, verbose=0)  # fmt: skip
    first, second = coarse_atom_grids(mol)
    assert [first[s] for s in ("H", "C", "I")] == [(25, 50), (30, 110), (45, 110)]
    assert {s: n for s, n in first.items() if "Br" in s.title()} == {
        mol.atom_symbol(2): (LADDER[0][0][3], LADDER[0][1][3])
    }
    assert all(second[s][0] < first[s][0] for s in first)


def test_it_is_made_once_and_stands_beside_the_target():
    make, target = source("O 0 0 .1; H .2 .3 1", 3)
    found = make()
    assert make() is found
    assert target.beside is found.grid
    assert found.ratio >= SMALLER
    assert found.ratio == pytest.approx(target.ngrids / found.grid.ngrids)
    weights = torch.cat([found.grid.block(b).weights for b in range(found.grid.n_blocks)])
    assert len(weights) == found.grid.ngrids


@pytest.mark.parametrize(("atom", "level"), [("O 0 0 0", 3), ("O 0 0 .1; H .2 .3 1", 0)])
def test_an_atom_and_a_small_grid_have_none(atom, level):
    make, target = source(atom, level)
    assert make() is None
    assert target.beside is None
