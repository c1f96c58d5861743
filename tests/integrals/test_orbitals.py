"""Electrons and the orbitals that hold them."""

import pytest
from pyscf import gto

from deeph_zero.errors import InputError
from deeph_zero.integrals.orbitals import charge_of, check_orbitals


def test_as_many_electrons_as_orbitals_are_enough():
    check_orbitals((3, 1), 3, charge=0)
    check_orbitals((3, 3), 4, charge=0, n_independent=3)


@pytest.mark.parametrize(
    ("nelec", "nao", "independent", "words"),
    [
        ((4, 4), 3, None, "at most 3 electron pairs for 3 orbitals, got 4 .charge -1.; choose a l"),
        ((4, 2), 3, None, "at most 3 electrons of one spin .* got 4 .charge -1, spin 2."),
        (
            (2, 4),
            5,
            3,
            "at most 3 electrons .* for 3 linearly independent orbitals .of 5 functions., got 4",
        ),
    ],
)
def test_more_are_refused(nelec, nao, independent, words):
    with pytest.raises(InputError, match=f"w.xyz frame 2: expected {words}"):
        check_orbitals(nelec, nao, charge=-1, n_independent=independent, where="w.xyz frame 2: ")


def test_the_charge_is_that_of_the_electrons():
    mol = gto.M(atom="I 0 0 0; H 0 .2 3", basis="lanl2dz", ecp="lanl2dz", charge=0, verbose=0)
    assert charge_of(mol) == 0
    mol.nelectron -= 2  # mol.charge does not follow
    assert charge_of(mol) == 2
    assert charge_of(gto.M(atom="O 0 0 0", charge=-2, basis="sto-3g", verbose=0)) == -2
