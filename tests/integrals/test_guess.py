"""Starting densities: electron numbers, fallbacks, symmetry breaking."""

import numpy as np
import pytest
from pyscf import dft, gto
from pyscf.scf import hf

from deeph_zero.integrals import guess
from deeph_zero.integrals.guess import atomic_density, density_guess
from deeph_zero.integrals.minao import minao_density
from deeph_zero.testing import WATER

MOLECULES = {
    "water": {"atom": WATER, "basis": "def2-svp"},
    "ecp": {"atom": "H .1 .2 0; Ag 0 .3 1.7", "basis": "def2-svp", "ecp": "def2-svp"},
    "lanl": {"atom": "H .1 .2 0; I 0 .3 1.7", "basis": "lanl2dz", "ecp": "lanl2dz"},
    "ccecp": {
        "atom": WATER,
        "basis": "ccecp-cc-pvdz",
        "ecp": "ccecp",
    },
    "cart": {"atom": "O 0 0 .1; H 0 .76 .58", "basis": "6-31g*", "cart": True, "charge": -1},
    "ghost": {"atom": "He 0 0 0; ghost-He 0 .4 1.5", "basis": "def2-svp"},
    "cation": {"atom": "H 0 0 0; H 0 .1 1; H 0 .8 .3", "basis": "def2-tzvp", "charge": 1},
    "h2": {"atom": "H 0 0 0; H 0 .1 .8", "basis": "sto-3g"},
    "oxygen": {"atom": "O .1 0 0", "basis": "def2-tzvp", "spin": 2},
    "hydrogen": {"atom": "H .1 0 0", "basis": "def2-svp", "spin": 1},
}


@pytest.fixture(params=MOLECULES)
def mol(request):
    return gto.M(verbose=0, **MOLECULES[request.param])


def test_electron_numbers(mol):
    ovlp = hf.get_ovlp(mol)
    if mol.spin == 0:
        dm = density_guess(mol).numpy()
        assert dm.shape == (mol.nao, mol.nao)
        assert np.trace(dm @ ovlp) == pytest.approx(mol.nelectron, abs=1e-10)
    for break_symmetry in (False, True):
        pair = density_guess(mol, unrestricted=True, break_symmetry=break_symmetry).numpy()
        assert np.trace(pair[0] @ ovlp) == pytest.approx(mol.nelec[0], abs=1e-10)
        assert np.trace(pair[1] @ ovlp) == pytest.approx(mol.nelec[1], abs=1e-10)
        np.testing.assert_array_equal(pair, pair.transpose(0, 2, 1))


def test_it_is_pyscfs_minao_up_to_the_scale(mol):
    reference = np.asarray(hf.init_guess_by_minao(mol))
    dm, name = atomic_density(mol)
    assert name == "minao"
    np.testing.assert_allclose(dm, reference, atol=1e-14)


@pytest.mark.parametrize("missing", ["minao", "atom"])
def test_fallbacks_have_the_right_electron_number(water, monkeypatch, missing):
    def broken(_mol):
        raise AssertionError("no such occupation")

    recipes = dict(guess._RECIPES)
    recipes["minao"] = broken
    if missing == "atom":
        recipes["atom"] = broken
    monkeypatch.setattr(guess, "_RECIPES", tuple(recipes.items()))
    dm, name = atomic_density(water)
    assert name == {"minao": "atom", "atom": "hcore"}[missing]
    ovlp = hf.get_ovlp(water)
    assert np.trace(dm @ ovlp) == pytest.approx(10, abs=0.5)
    ours = density_guess(water).numpy()
    assert np.trace(ours @ ovlp) == pytest.approx(10, abs=1e-10)


def test_core_density_is_idempotent_and_counts_odd_electrons():
    mol = gto.M(atom="O 0 0 0; H 0 .3 .9", basis="def2-svp", spin=1, verbose=0)
    dm = guess._core_density(mol)
    ovlp = hf.get_ovlp(mol)
    assert np.trace(dm @ ovlp) == pytest.approx(9, abs=1e-10)
    occupations = np.linalg.eigvals(dm @ ovlp).real
    assert sorted(np.round(occupations, 8))[-5:] == [1, 2, 2, 2, 2]


def test_no_electrons_of_one_spin():
    mol = gto.M(atom="H .1 0 0", basis="def2-svp", spin=1, verbose=0)
    assert density_guess(mol, unrestricted=True)[1].abs().max() == 0


def test_broken_symmetry_is_deterministic_and_breaks_spin_and_space():
    mol = gto.M(atom="H 0 0 0; H 0 0 2.5", basis="def2-svp", verbose=0)
    pair = density_guess(mol, unrestricted=True, break_symmetry=True)
    again = density_guess(mol, unrestricted=True, break_symmetry=True)
    assert (pair == again).all()
    plain = density_guess(mol, unrestricted=True)
    assert (plain[0] == plain[1]).all()
    ovlp = hf.get_ovlp(mol)
    left = [float(np.einsum("ij,ij->", p.numpy()[:5], ovlp[:5])) for p in pair]
    assert abs(left[0] - left[1]) > 0.2


def test_broken_symmetry_finds_the_lower_solution_of_stretched_h2():
    mol = gto.M(atom="H 0 0 0; H 0 0 2.5", basis="def2-svp", verbose=0)
    energies = []
    for break_symmetry in (False, True):
        mf = dft.UKS(mol, xc="pbe").density_fit()
        mf.grids.level = 1
        start = density_guess(mol, unrestricted=True, break_symmetry=break_symmetry)
        energies.append(mf.kernel(dm0=start.numpy()))
        assert mf.converged
    assert energies[1] < energies[0] - 0.03


def test_minao_is_pyscfs(mol):
    difference = minao_density(mol) - np.asarray(hf.init_guess_by_minao(mol))
    assert np.abs(difference).max() < 1e-13


@pytest.mark.parametrize("atoms", ["He Li Be B", "N F Ne Na", "Al Si P S", "K Ti Fe Zn", "Br1 Kr"])
def test_minao_is_pyscfs_for_many_elements(atoms):
    atom = [(symbol, (0.3 * k, 0.2, 2.0 * k)) for k, symbol in enumerate(atoms.split())]
    mol = gto.M(atom=atom, basis="def2-svp", spin=None, verbose=0)
    for _ in range(2):  # read, and kept
        difference = minao_density(mol) - np.asarray(hf.init_guess_by_minao(mol))
        assert np.abs(difference).max() < 1e-13
