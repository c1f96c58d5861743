"""One calculation: from keywords, or read off a mean-field object of PySCF."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from pyscf import df, dft, gto, scf
from pyscf.dft import gen_grid

from deeph_zero.errors import InputError
from deeph_zero.integrals.calculation import (
    calculation,
    calculation_of,
    fitting_set,
    grid_points,
    level_of,
    one_electron_matrix,
    same_functional,
)
from deeph_zero.integrals.libxc import describe
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.testing import WATER


@pytest.fixture(scope="module")
def mol():
    return gto.M(atom=WATER, basis="sto-3g", verbose=0)


@pytest.fixture(scope="module")
def hydroxyl():
    return gto.M(atom="O 0 0 0; H 0 .3 .9", basis="sto-3g", spin=1, verbose=0)


def rks(mol, xc="pbe", level=0):
    mf = dft.RKS(mol, xc=xc)
    mf.grids.level = level
    return mf


# ---- from a molecule ---------------------------------------------------------------------------


def test_keywords_and_defaults_of_a_molecule(mol, hydroxyl):
    found = calculation(mol, xc="pbe0", grid_level=1, smearing=None, auxbasis=None)
    assert found.method == Method(xc="pbe0", basis="sto-3g", grid_level=1)
    assert (found.spec.hyb, found.fit_exchange, found.unrestricted) == (0.25, True, False)
    assert found.mol is mol
    assert (found.grids, found.with_df, found.hcore, found.e_nuc) == (None, None, None, None)
    assert not calculation(mol, density_fit=False).fit_exchange
    assert calculation(hydroxyl).unrestricted
    assert calculation(mol, unrestricted=True).unrestricted


def test_the_basis_is_the_molecules(mol):
    found = calculation_of(mol, Method(basis="def2-qzvp", xc="hf"))
    assert found.mol.nao == 7
    assert found.spec.kind == "HF"


def test_wrong_molecules_and_keywords(mol, hydroxyl):
    with pytest.raises(InputError, match="basis"):  # the molecule has one
        calculation(mol, basis="def2-svp")
    with pytest.raises(InputError, match="grid_levle"):
        calculation(mol, grid_levle=1)
    with pytest.raises(
        InputError, match="expected spin 0 for a restricted calculation, got spin 1"
    ):
        calculation(hydroxyl, unrestricted=False)
    with pytest.raises(InputError, match="expected a molecule's method, got a crystal's"):
        calculation_of(mol, Method(crystal=CrystalMethod()))


# ---- from a mean-field object ------------------------------------------------------------------


def test_what_an_object_says(mol, hydroxyl):
    found = calculation(rks(mol, "b3lyp", 2))
    assert found.method == Method(
        xc="b3lyp", basis="sto-3g", density_fit=False, grid_level=2, unrestricted=False
    )
    assert found.grids.level == 2
    np.testing.assert_array_equal(found.hcore, scf.hf.get_hcore(mol))
    assert found.e_nuc == mol.energy_nuc()
    two = calculation(dft.UKS(hydroxyl, xc="pbe").density_fit())
    assert (two.unrestricted, two.method.density_fit, two.fit_exchange) == (True, True, True)
    coulomb_only = calculation(dft.RKS(mol, xc="pbe0").density_fit(only_dfj=True))
    assert (coulomb_only.method.density_fit, coulomb_only.fit_exchange) == (True, False)


def test_hartree_fock_has_no_grid(mol):
    found = calculation(scf.RHF(mol))
    assert (found.method.xc, found.method.grid_level, found.grids) == ("hf", None, None)
    assert found.spec.kind == "HF"


def test_an_object_of_its_own_one_electron_matrices(mol):
    mf = rks(mol)
    shift = np.diag(np.arange(7.0))
    mf.get_hcore = lambda *_: scf.hf.get_hcore(mf.mol) + shift
    np.testing.assert_allclose(calculation(mf).hcore - scf.hf.get_hcore(mol), shift, atol=1e-13)


def test_what_an_object_says_nothing_of_may_be_said_beside_it(mol):
    beside = {"two_grids": False, "lindep_threshold": 1e-5, "smearing": 0.01}
    found = calculation(rks(mol), **beside)
    for name, value in beside.items():
        assert getattr(found.method, name) == value


@pytest.mark.parametrize(
    ("same", "other", "words"),
    [
        (
            {"xc": "PBE,PBE"},
            {"xc": "pbe0"},
            "expected xc from the mean-field object, which has 'pb",
        ),
        ({"grid_level": 0}, {"grid_level": 1}, "has 0, got grid_level=1 beside it; leave it out"),
        ({"unrestricted": False}, {"unrestricted": True}, "has False, got unrestricted=True"),
        ({"density_fit": False}, {"density_fit": True}, "has False, got density_fit=True"),
    ],
)
def test_keywords_beside_an_object(mol, same, other, words):
    mf = rks(mol)
    assert calculation(mf, **same).method == calculation(mf).method
    with pytest.raises(InputError, match=words):
        calculation(mf, **other)


def test_fitting_sets_beside_an_object(mol):
    mf = rks(mol).density_fit(auxbasis="def2-universal-jfit")
    calculation(mf, auxbasis="DEF2-universal-JFIT")
    with pytest.raises(InputError, match="has 'def2-universal-jfit', got auxbasis='weigend'"):
        calculation(mf, auxbasis="weigend")


def test_smearing_of_an_object_is_its_own(mol):
    mf = scf.addons.smearing_(rks(mol), sigma=0.02, method="fermi")
    assert calculation(mf).method.smearing == 0.02
    assert calculation(mf, smearing=0.02).method.smearing == 0.02
    with pytest.raises(InputError, match=r"which has 0\.02, got smearing=0\.1 beside it"):
        calculation(mf, smearing=0.1)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (np.eye(3), r"got shape \(3, 3\)"),
        (np.stack([np.eye(7)] * 2), r"got shape \(2, 7, 7\); only one for both spins"),
        (np.eye(7) + 0j, "got complex numbers"),
        (np.full((7, 7), np.nan), "got NaN or infinity"),
        (np.triu(np.ones((7, 7))), "got an asymmetric matrix"),
    ],
)
def test_one_electron_matrices_that_are_none(mol, matrix, words):
    mf = SimpleNamespace(mol=mol, get_hcore=lambda _: matrix)
    with pytest.raises(InputError, match=r"expected mf\.get_hcore to return a real symmetric") as e:
        one_electron_matrix(mf, "get_hcore")
    assert e.match(words)


# ---- functionals, grids, fitting sets ----------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("pbe", "PBE,PBE", True),
        ("pbe", "gga_x_pbe + gga_c_pbe", True),
        ("b3lyp", "b3lypg", True),
        ("b3lyp", "b3lyp5", False),
        ("pbe0", "pbe", False),
        ("pbe", "pbe,", False),
        ("wb97x-v", "wb97x", False),
    ],
)
def test_functionals_are_compared_by_what_they_are(one, other, same):
    assert same_functional(describe(one), describe(other)) is same


def test_a_grid_is_made_or_taken_over(mol):
    made = grid_points(calculation(mol, grid_level=0))
    reference = gen_grid.Grids(mol)
    reference.level = 0
    reference.build()
    np.testing.assert_array_equal(made.coords, reference.coords)
    np.testing.assert_array_equal(made.weights, reference.weights)
    mf = rks(mol)
    assert mf.grids.coords is None
    taken = grid_points(calculation(mf))  # built where it is not yet
    np.testing.assert_array_equal(taken.weights, mf.grids.weights)
    mf.grids.coords, mf.grids.weights = np.ones((2, 3)), np.array([0.5, 0.25])
    own = grid_points(calculation(mf))
    assert (own.coords.shape, own.weights.tolist()) == ((2, 3), [0.5, 0.25])


def test_levels_of_grids(mol):
    grids = gen_grid.Grids(mol)
    assert level_of(grids) == 3
    grids.level = 1
    grids.build()
    assert level_of(grids) == 1
    for name, value in (("prune", None), ("atom_grid", {"O": (20, 50)}), ("radi_method", None)):
        other = gen_grid.Grids(mol)
        setattr(other, name, value)
        assert level_of(other) is None
    points = gen_grid.Grids(mol)
    points.coords, points.weights = np.ones((1, 3)), np.ones(1)
    assert level_of(points) is None

    class Mine(gen_grid.Grids):
        pass

    assert level_of(Mine(mol)) is None


def test_fitting_sets_are_pyscfs(mol):
    found = fitting_set(calculation(mol, xc="pbe"))
    reference = rks(mol).density_fit()
    reference.with_df.build()
    assert found.mole.nao == reference.with_df.auxmol.nao
    named = fitting_set(calculation(mol, auxbasis="weigend"))
    assert (named.name, named.mole.nao) == ("weigend", df.make_auxmol(mol, "weigend").nao)
    # an object without a set resolves it for exact exchange, whatever the functional
    unnamed = rks(mol).density_fit()
    unnamed.with_df.auxbasis = None
    assert fitting_set(calculation(unnamed)).mole.nao == df.make_auxmol(mol).nao
    given = rks(mol).density_fit(auxbasis="def2-universal-jkfit")
    assert fitting_set(calculation(given)).name == "def2-universal-jkfit"


def test_a_finished_tensor_has_its_own_fitting_set(mol):
    mf = rks(mol).density_fit(auxbasis="def2-universal-jfit")
    mf.with_df.build()
    found = fitting_set(calculation(mf))
    assert found.mole is mf.with_df.auxmol
    assert found.name == "def2-universal-jfit"
    # without a tensor PySCF makes the molecule anew
    mf.with_df._cderi = None
    assert fitting_set(calculation(mf)).mole is not mf.with_df.auxmol


def test_a_spin_is_checked_for_objects_too(hydroxyl):
    found = calculation(dft.UKS(hydroxyl, xc="pbe"))
    restricted = dataclasses.replace(found.method, unrestricted=False)
    with pytest.raises(InputError, match="use unrestricted=True"):
        calculation_of(hydroxyl, restricted)
