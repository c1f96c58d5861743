"""What authors of networks check with: it passes what is right and names what is broken."""

import numpy as np
import pytest
import torch

from deeph_zero.integrals.mole import build_mole
from deeph_zero.molecule import Molecule
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.testing import assert_equivariant, random_matrices

PEROXIDE = Molecule(
    numbers=np.array([8, 1, 8, 1]),
    coords=np.array([[0, 0, 0.1], [0.3, 1.6, 0.9], [2.6, 0.2, -0.2], [3.1, -1.2, 1.1]]),
)
"""No symmetry, not even a mirror plane: it has a handedness."""


def handedness(molecule, matrices):
    """A pseudoscalar times S: turns rightly, but ignores reflections."""
    a, b, c, d = torch.from_numpy(molecule.coords[np.argsort(molecule.numbers, kind="stable")])
    return matrices.ovlp * torch.linalg.det(torch.stack([b - a, c - a, d - a])).sign()


def from_the_origin(molecule, matrices):
    return matrices.ovlp * float((molecule.coords**2).sum())


def along_z(molecule, matrices):
    return matrices.ovlp * float(np.ptp(molecule.coords[:, 2]))


def first_atom(molecule, matrices):
    return matrices.ovlp * float(molecule.numbers[0])


def lopsided(_molecule, matrices):
    return matrices.hcore @ matrices.ovlp


def nothing(_molecule, matrices):
    return 0 * matrices.ovlp


@pytest.fixture(scope="module")
def given():
    """Basis layout and matrices."""
    mol = build_mole(PEROXIDE, basis="sto-3g")
    return {"layout": basis_layout([mol]), "matrices": random_matrices(mol)}


def test_products_of_what_is_read_are_equivariant(given):
    def right(_molecule, matrices):
        return matrices.hcore @ matrices.ovlp @ matrices.hcore + matrices.fock0

    assert_equivariant(right, PEROXIDE, **given)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lopsided, "Hermiticity is broken: H differs by"),
        (along_z, "rotation is broken"),
        (handedness, "reflection is broken"),
        (from_the_origin, "translation is broken"),
        (first_atom, "permutation is broken"),
        (nothing, "the tested matrix is zero"),
    ],
)
def test_what_is_broken_is_named(wrong, said, given):
    with pytest.raises(AssertionError, match=said):
        assert_equivariant(wrong, PEROXIDE, **given)


def test_a_function_needs_a_layout(given):
    with pytest.raises(TypeError, match="expected layout"):
        assert_equivariant(nothing, PEROXIDE, given["matrices"])
