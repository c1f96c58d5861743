"""Derivatives of superposed atoms and their clouds along an atom, against differences."""

import dataclasses

import pytest
import torch
from pyscf import gto

from deeph_zero.integrals.atomic_clouds import atomic_clouds, superposed_atoms
from deeph_zero.integrals.moving_clouds import MovingClouds
from deeph_zero.integrals.one_electron import as_tensor

ATOMS = [("O", (0.1, 0.0, 0.2)), ("H", (0.3, 1.6, 1.1))]
STEP = 1e-3


def molecule(atom=0, x=0, by=0.0):
    moved = [(s, tuple(c + by * (k == atom and i == x) for i, c in enumerate(xyz)))
             for k, (s, xyz) in enumerate(ATOMS)]  # fmt: skip
    return gto.M(atom=moved, basis="sto-3g", unit="Bohr", spin=1, verbose=0)


def difference(matrix_of, atom, x):
    """Five-point derivative along one coordinate."""
    f = [matrix_of(molecule(atom, x, t * STEP)) for t in (1, -1, 2, -2)]
    return (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * STEP)


@pytest.fixture(scope="module")
def moving():
    return MovingClouds(molecule())


@pytest.mark.parametrize("atom", [0, 1])
def test_matrices_follow_each_atom(moving, atom):
    x = 1 + atom  # y of oxygen, z of hydrogen
    for found, matrix_of in (
        (moving.ovlp(atom), lambda mol: as_tensor(mol.intor("int1e_ovlp"))),
        (
            moving.hcore(atom),
            lambda mol: as_tensor(mol.intor("int1e_kin") + mol.intor("int1e_nuc")),
        ),
        (moving.bare(atom), superposed_atoms),
    ):
        wanted = difference(matrix_of, atom, x)
        assert float(wanted.abs().max()) > 0.05
        torch.testing.assert_close(found[x], wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize("atom", [0, 1])
def test_clouds_follow_each_atom(moving, atom):
    x = 2 - atom
    found = moving.clouds(atom)[x]
    for name in ("three_centre", "near", "far", "ovlp", "dipole", "free"):
        wanted = difference(lambda mol, n=name: getattr(atomic_clouds(mol), n), atom, x)
        own = getattr(found, name)
        assert float(wanted.abs().max()) > 1e-3, name
        torch.testing.assert_close(
            own, wanted, rtol=0, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}"
        )
    moments = torch.linspace(-0.2, 0.3, 4 * len(ATOMS), dtype=torch.float64)
    wanted = difference(lambda mol: atomic_clouds(mol).far_field(moments), atom, x)
    torch.testing.assert_close(found.far_field(moments), wanted, rtol=0, atol=1e-8)
    assert not found.electrons.any()
    assert len(dataclasses.fields(found)) == 9


def test_nothing_changes_where_all_move_together(moving):
    for matrix_of in (moving.ovlp, moving.hcore, moving.bare):
        total = matrix_of(0) + matrix_of(1)
        assert float(total.abs().max()) < 1e-9
