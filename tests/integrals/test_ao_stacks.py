"""Blocks of several grids as one padded stack: PySCF's values where there are some, else zeros."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from pyscf import gto

from deeph_zero.integrals.ao_shells import ao_basis
from deeph_zero.integrals.ao_stacks import BlockSource, make_stack

CPU = torch.device("cpu")


def source(mol, bounds, seed=0):
    """Random points in blocks; every block has some of the shells."""
    rng = np.random.default_rng(seed)
    sizes = np.array([mol.bas_len_cart(k) if mol.cart else 2 * mol.bas_angular(k) + 1
                      for k in range(mol.nbas)])  # fmt: skip
    sizes = sizes * [mol.bas_nctr(k) for k in range(mol.nbas)]
    shells = rng.random((len(bounds) - 1, mol.nbas)) < 0.7
    shells[:, 0] = True
    return BlockSource(
        ao_basis(mol),
        mol.atom_coords(),
        sizes,
        shells,
        [slice(a, b) for a, b in pairwise(bounds)],
        rng.normal(size=(bounds[-1], 3)),
        rng.random(bounds[-1]),
    )


def mole(atom, basis, **settings):
    return gto.M(atom=atom, basis=basis, verbose=0, **settings)


PAIRS = {
    "unlike molecules": (
        mole("O 0 0 .1; H .1 .76 .58", "def2-svp", charge=-1),
        mole("He 0 .1 .2", "sto-3g"),
        False,
    ),
    "general contractions and f": (
        mole("C .1 0 0; H 0 .3 1", "cc-pvdz", spin=1),
        mole("O 0 0 .1; H .1 .7 .6", "def2-tzvp", spin=1),
        False,
    ),
    "cartesian": (
        mole("O 0 0 .1; H 0 .76 .58", "6-31g*", cart=True, spin=1),
        mole("C .1 0 0", "6-31g*", cart=True),
        True,
    ),
}


@pytest.mark.parametrize("deriv", [0, 1])
@pytest.mark.parametrize("case", PAIRS)
def test_values_are_pyscfs_and_padding_is_nothing(case, deriv):
    one, other, cart = PAIRS[case]
    sources = [(source(one, [0, 7, 12]), 0), (source(other, [0, 5, 9], 1), 1)]
    sources.append((sources[0][0], 1))
    nao = one.nao + other.nao
    stack = make_stack(sources, nao, deriv=deriv, device=CPU)
    assert stack.ao.shape[:3] == ((1, 4)[deriv], 3, 7)
    name = f"GTOval_{'cart' if cart else 'sph'}" + ("_deriv1" if deriv else "")
    for b, (mol, (made, k)) in enumerate(zip((one, other, one), sources, strict=True)):
        points = made.points[k]
        n = points.stop - points.start
        columns = np.flatnonzero(np.repeat(made.shells[k], made.sizes))
        wanted = mol.eval_gto(name, made.coords[points]).reshape(-1, n, mol.nao)[..., columns]
        found = stack.ao[:, b].numpy()
        np.testing.assert_allclose(found[:, :n, : len(columns)], wanted, atol=1e-12)
        assert not found[:, :, len(columns) :].any()
        assert stack.index[b].tolist() == [*columns, *[nao] * (len(found[0, 0]) - len(columns))]
        np.testing.assert_array_equal(stack.weights[b, :n], made.weights[points])
        assert not stack.weights[b, n:].any()
        # padding points lie on the last real one, where values are finite
        last = found[:, n - 1 : n]
        np.testing.assert_array_equal(found[:, n:], np.repeat(last, 7 - n, axis=1))


def test_a_stack_of_one_block_has_no_padding():
    mol = PAIRS["unlike molecules"][0]
    made = source(mol, [0, 4])
    made.shells[:] = True
    stack = make_stack([(made, 0)], mol.nao, deriv=0, device=CPU)
    np.testing.assert_allclose(stack.ao[0, 0], mol.eval_gto("GTOval_sph", made.coords), atol=1e-12)
    assert stack.index[0].tolist() == list(range(mol.nao))
