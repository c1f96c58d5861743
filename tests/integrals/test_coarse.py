"""The coarse quadrature beside the target grid: its size, and where there is none."""

import numpy as np
import pytest
import torch
from pyscf import gto, scf

from deeph_zero.integrals.coarse import (
    LADDER,
    NEGLIGIBLE,
    SMALLER,
    CoarseSource,
    coarse_atom_grids,
    points_that_matter,
)
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
    # of all points, those that are left out among them
    assert found.ratio <= target.ngrids / found.grid.ngrids
    weights = torch.cat([found.grid.block(b).weights for b in range(found.grid.n_blocks)])
    assert len(weights) == found.grid.ngrids


@pytest.mark.parametrize(("atom", "level"), [("O 0 0 0", 3), ("O 0 0 .1; H .2 .3 1", 0)])
def test_an_atom_and_a_small_grid_have_none(atom, level):
    make, target = source(atom, level)
    assert make() is None
    assert target.beside is None


@pytest.mark.parametrize(("charge", "left_out"), [(0, True), (1, True), (-1, False)])
def test_points_without_electrons_are_left_out_but_of_anions(charge, left_out):
    mol = gto.M(atom="O 0 0 .1; H .2 .3 1", basis="def2-svp", charge=charge, spin=None, verbose=0)
    whole = build_grid(mol, atom_grid=coarse_atom_grids(mol)[0])
    kept = points_that_matter(mol, whole)
    assert (len(kept.weights) < 0.85 * len(whole.weights)) == left_out
    dm = scf.hf.init_guess_by_minao(mol)

    def electrons(grid):
        ao = mol.eval_gto("GTOval_sph", grid.coords)
        return np.einsum("gm,mn,gn,g->", ao, dm, ao, grid.weights)

    lost = electrons(whole) - electrons(kept)
    # bonded atoms are not free ones
    assert abs(lost) < 10 * NEGLIGIBLE * mol.nelectron
    assert (abs(lost) > 1e-12) == left_out


def test_a_mirror_of_the_molecule_is_one_of_what_is_left():
    mol = gto.M(atom="O 0 0 .1; H 0 1.43 1.1; H 0 -1.43 1.1", unit="B", verbose=0)
    kept = points_that_matter(mol, build_grid(mol, atom_grid=coarse_atom_grids(mol)[0])).coords
    places = {tuple(np.round(one, 6) + 0.0) for one in kept}
    assert places == {(x, -y + 0.0, z) for x, y, z in places}


def test_an_element_without_natural_orbitals_keeps_its_points():
    mol = gto.M(atom="Lr 0 0 0; H 0 .3 2", basis={"Lr": "crenbl", "H": "sto-3g"},
                ecp={"Lr": "crenbl"}, spin=None, verbose=0)  # fmt: skip
    whole = build_grid(mol, 0)
    assert len(points_that_matter(mol, whole).weights) == len(whole.weights)
