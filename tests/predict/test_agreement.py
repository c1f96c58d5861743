"""Which objects of PySCF are the model's own problem, and what of the others differs, by name."""

import dataclasses
import re

import numpy as np
import pytest
from pyscf import dft, gto, scf
from pyscf.pbc import gto as pbcgto
from pyscf.pbc import scf as pbcscf

from deeph_zero.errors import InputError
from deeph_zero.method import Method
from deeph_zero.predict.agreement import (
    check_molecule_is,
    check_startable,
    check_starts,
    differences,
    label_of_basis,
    other_electrons,
    other_functions,
    other_nuclei,
)
from deeph_zero.testing import WATER as ATOMS

GOLD = "Au 0 0 0; H 0.1 0.2 1.5"
METHOD = Method(xc="pbe", basis="sto-3g", grid_level=0)


def mole(atom=ATOMS, **settings):
    return gto.M(atom=atom, **{"basis": "sto-3g", "verbose": 0} | settings)


@pytest.fixture(scope="module")
def ours():
    return mole()


# ---- molecules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"charge": 2}, r"it has \(4, 4\) electrons, not the \(5, 5\) of charge 0 and spin 0"),
        ({"spin": 2}, r"it has \(6, 4\) electrons, not the \(5, 5\)"),
        (
            {"atom": ATOMS.replace("H 0 ", "GHOST-H 0 "), "spin": 1},
            r"has nuclear charge 0 with no ECP, not 1",
        ),
    ],
    ids=["charge", "spin", "ghost"],
)
def test_other_electrons_are_counted(ours, settings, words):
    other = mole(**settings)
    found = other_electrons(other, ours)
    assert re.search(words, found), found


def test_the_same_molecule_differs_in_nothing(ours):
    same = mole(basis={"O": "sto-3g", "H": gto.basis.load("sto-3g", "H")})
    assert other_electrons(same, ours) == ""
    assert other_functions(same, ours) == ""
    assert other_nuclei(same, ours) == ""
    check_molecule_is(same, ours, "sto-3g")


def test_cores_are_named_on_both_sides():
    own, bare = mole(GOLD, basis="def2-svp", ecp="def2-svp"), mole(GOLD, basis="def2-svp", spin=0)
    found = other_electrons(bare, own)
    assert "Au (atom 1) has nuclear charge 79 with no ECP, not 19 with an ECP for 60" in found
    assert "build it with ecp='def2-svp'" in found
    assert "build it without ecp" in other_electrons(own, bare)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"basis": "6-31g"}, r"O \(atom 1\) has 3s2p functions, not 2s1p"),
        ({"basis": {"O": "sto-3g", "H": "6-31g"}}, r"H \(atom 2\) has 2s functions, not 1s"),
        ({"basis": "sto-6g"}, r"O \(atom 1\) has its functions with other exponents or coeff"),
        ({"atom": ATOMS.replace("0.76", "0.86")}, "in another order, or on other places"),
    ],
    ids=["more", "one element", "exponents", "places"],
)
def test_other_functions_are_named_by_their_atom(ours, settings, words):
    assert re.search(words, other_functions(mole(**settings), ours))


def test_cartesian_functions_are_named():
    own = mole(basis="def2-svp")
    found = other_functions(mole(basis="def2-svp", cart=True), own)
    assert found == "its functions are Cartesian, not spherical (cart=True)"


def test_an_order_of_shells_is_no_other_basis(ours):
    shells = gto.basis.load("sto-3g", "O")
    found = other_functions(mole(basis={"O": shells[::-1], "H": "sto-3g"}), ours)
    # PySCF sorts by momentum: two s shells change places
    assert found == "O (atom 1) has its functions in another order"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda mol: mol.set_nuc_mod(0, 1e3), "its nuclei are no points (mol.nucmod)"),
        (lambda mol: setattr(mol, "_enuc", 1.0), "its energy_nuc is"),
    ],
    ids=["finite", "repulsion"],
)
def test_other_nuclei_are_named(ours, change, words):
    other = mole()
    change(other)
    assert other_nuclei(other, ours).startswith(words)


def test_another_core_potential_of_one_size_is_named():
    """Two-component potentials of the same 60 electrons."""
    own = mole(GOLD, basis="def2-svp", ecp="def2-svp")
    other = mole(GOLD, basis="def2-svp", ecp={"Au": "lanl2dz"})
    assert other_electrons(other, own) == ""
    assert other_nuclei(other, own) == "it has another effective core potential of the same size"


@pytest.mark.parametrize(
    ("basis", "label"),
    [
        ("sto-3g", "'sto-3g'"),
        ({"O": "6-31g", "H": "sto-3g"}, "'6-31g' and 'sto-3g'"),
        ({"O": "sto-3g", "H": gto.basis.load("sto-3g", "H")}, "functions of its own"),
    ],
)
def test_a_basis_in_few_words(basis, label):
    assert label_of_basis(mole(basis=basis)) == label


def test_another_molecule_is_refused_with_what_to_do(ours):
    with pytest.raises(InputError, match=r"basis 'sto-3g', got '6-31g': .*gto\.M\(\.\.\., basis="):
        check_molecule_is(mole(basis="6-31g"), ours, "sto-3g")
    with pytest.raises(InputError, match="got another: it has"):
        check_molecule_is(mole(charge=2), ours, "sto-3g")
    own = {"O": gto.basis.load("sto-6g", "O"), "H": "sto-3g"}
    with pytest.raises(InputError, match="got functions of its own: O"):
        check_molecule_is(mole(basis=own), ours, "sto-3g")


# ---- mean-field objects --------------------------------------------------------------------------


def rks(mol=None, *, fitted=True, xc="pbe", level=0):
    mf = dft.RKS(mole() if mol is None else mol, xc=xc)
    mf = mf.density_fit() if fitted else mf
    mf.grids.level = level
    return mf


def of(mf, ours, method=METHOD, *, numerical=True):
    return differences(mf, method, ours, numerical=numerical)


def test_the_same_problem_differs_in_nothing(ours):
    assert of(rks(), ours) == []
    assert of(rks(xc="PBE,"), ours) != []
    assert of(rks(xc="gga_x_pbe,gga_c_pbe"), ours) == []
    assert of(dft.UKS(mole(), xc="pbe").density_fit(), ours, numerical=False) == []
    assert of(dft.ROKS(mole(), xc="pbe").density_fit(), ours, numerical=False) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"xc": "b3lyp"}, "xc is 'b3lyp', not 'pbe'"),
        ({"fitted": False}, "fitting is 'no density fitting', not"),
        ({"level": 2}, "mf.grids.level is 2, not 0"),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else "",
)
def test_what_differs_is_named(ours, change, words):
    (found,) = of(rks(**change), ours)
    assert found.startswith(words)


def test_a_functional_that_is_not_known_is_named(ours):
    mf = rks()
    mf.xc = "no_such"
    assert of(mf, ours)[0].startswith("xc 'no_such' is none of this package's (")


def test_a_grid_matters_for_energies_alone(ours):
    assert of(rks(level=2), ours, numerical=False) == []


def test_grids_that_were_changed_behind_their_level(ours):
    mf = rks()
    mf.grids.build()
    assert of(mf, ours) == []
    mf.grids.weights = mf.grids.weights * 1.01
    assert of(mf, ours) == ["mf.grids has other points or weights than its level 0"]
    mf = rks()
    mf.grids.atom_grid = (30, 86)
    assert of(mf, ours) == ["mf.grids is a grid of its own, not level 0"]
    mf = rks()
    mf.small_rho_cutoff = 1e-7
    assert of(mf, ours) == ["it has small_rho_cutoff 1e-07"]


def test_fitting_sets_and_tensors_of_its_own(ours):
    other = dft.RKS(mole(), xc="pbe").density_fit(auxbasis="weigend")
    assert of(other, ours, numerical=False)[0].startswith("fitting is 'weigend', not ")
    own = dataclasses.replace(METHOD, auxbasis="weigend")
    assert of(other, ours, own, numerical=False) == []
    given = rks()
    given.with_df._cderi = np.zeros((2, 28))
    assert of(given, ours, numerical=False) == [
        "fitting is by a tensor of its own (mf.with_df._cderi)"
    ]
    hybrid = dataclasses.replace(METHOD, xc="pbe0")
    alone = dft.RKS(mole(), xc="pbe0").density_fit(only_dfj=True)
    assert of(alone, ours, hybrid, numerical=False) == ["fitting is for Coulomb alone (only_dfj)"]


def test_terms_that_were_set_on_the_object(ours):
    mf = rks()
    plain = mf.get_hcore()
    mf.get_hcore = lambda *_: plain
    mf.energy_nuc = lambda *_: mf.mol.enuc
    assert of(mf, ours) == [], "the same terms, from another function"
    field = plain.copy()
    field[0, 1] += 0.125
    field[1, 0] += 0.125
    mf.get_hcore = lambda *_: field
    assert of(mf, ours) == ["mf.get_hcore of its own is up to 0.12 away from the molecule's"]
    mf = rks()
    mf.energy_nuc = lambda *_: mf.mol.enuc + 0.5
    assert of(mf, ours) == ["mf.energy_nuc of its own is 0.5 Eh away from the molecule's"]


def test_several_differences_are_all_named(ours):
    mf = scf.addons.smearing_(rks(mole(basis="6-31g"), xc="b3lyp", level=3), sigma=0.01)
    found = of(mf, ours)
    assert [text.split(" is ")[0].split(" (")[0] for text in found] == [
        "it has smeared occupations", "basis", "xc",
    ]  # fmt: skip


@pytest.mark.parametrize("make", [scf.RHF, scf.UHF, scf.ROHF, dft.RKS, dft.UKS, dft.ROKS])
def test_these_can_be_started(make):
    check_startable(make(mole()))


def test_others_cannot_be_started():
    cell = pbcgto.M(atom="He 0 0 0", a=3 * np.eye(3), basis="sto-3g", verbose=0)
    for given in (scf.GHF(mole()), pbcscf.RHF(cell), mole(), None):
        with pytest.raises(InputError, match=f"got {type(given).__name__}; no other one starts"):
            check_startable(given)


# ---- methods -------------------------------------------------------------------------------------


def test_densities_start_scfs_of_the_same_method_on_any_grid():
    check_starts(METHOD, dataclasses.replace(METHOD, grid_level=4, smearing=0.01))
    check_starts(dataclasses.replace(METHOD, xc="PBE"), METHOD)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"xc": "pbe0"}, "expected a model of xc pbe0, got one of pbe; give xc pbe"),
        ({"basis": "6-31g"}, "of basis 6-31g, got one of sto-3g"),
        ({"density_fit": False}, "of density_fit False, got one of True"),
        ({"auxbasis": "weigend"}, "of auxbasis weigend, got one of None"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_densities_of_another_method_are_refused(changed, words):
    with pytest.raises(InputError, match=words):
        check_starts(METHOD, dataclasses.replace(METHOD, **changed))
