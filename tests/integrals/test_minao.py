"""PySCF's minao guess with the free atoms kept: the same numbers."""

import numpy as np
import pytest
from pyscf import gto
from pyscf.scf import hf

from deeph_zero.integrals import minao
from deeph_zero.integrals.minao import free_atom, minao_density

CASES = {
    "light": {"atom": "O .1 0 .2; H 0 .9 .8; C .3 -1.2 .1", "basis": "sto-3g", "spin": 1},
    "d shells": {"atom": "Fe 0 0 .1; S .2 .3 2.1", "basis": "sto-3g"},
    "ghost": {"atom": "O .1 0 .2; ghost-H 0 .9 .8", "basis": "sto-3g"},
    "ecp": {"atom": "I .1 0 .2; H 0 .9 1.5", "basis": "lanl2dz", "ecp": {"I": "lanl2dz"}},
}


@pytest.mark.parametrize("case", CASES)
def test_the_density_is_pyscfs(case):
    mol = gto.M(verbose=0, **CASES[case])
    wanted = np.asarray(hf.init_guess_by_minao(mol))
    found = minao_density(mol)
    assert abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("symbol", "electrons"), [("H", 1), ("C", 6), ("Fe", 26), ("Xe", 54)])
def test_a_free_atom_has_its_electrons(symbol, electrons):
    occupations, shells = free_atom(symbol)
    assert sum(occupations) == pytest.approx(electrons)
    assert len(occupations) == sum((2 * s[0] + 1) * (len(s[1]) - 1) for s in shells)


def test_an_atom_is_read_once(monkeypatch):
    mol = gto.M(atom="N 0 0 0; N .1 .2 1.1", basis="sto-3g", verbose=0)
    minao_density(mol)
    monkeypatch.setattr(minao, "shells_of", None)  # would be an error
    minao_density(mol)
