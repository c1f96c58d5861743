"""Molecules from PySCF: coordinates, pseudopotentials, shells, fitting sets, input errors."""

import numpy as np
import pytest
from pyscf import dft, gto

from deeph_zero.errors import InputError
from deeph_zero.integrals.mole import (
    auxbasis_name,
    auxiliary_basis,
    build_mole,
    nelec_core,
    shell_ls,
    valid_auxbasis,
    valid_basis,
)
from deeph_zero.molecule import Molecule


def molecule(numbers, coords, **more):
    return Molecule(numbers=np.array(numbers), coords=np.array(coords, dtype=float), **more)


HI = molecule([1, 53], [[0.1, 0.2, 0.3], [0.2, -0.3, 3.4]])
OH = molecule([8, 1], [[0, 0, 0], [0.1, 0.2, 1.8]])


def test_coordinates_are_identical_and_mole_is_quiet():
    mol = build_mole(HI, basis="def2-svp")
    assert np.array_equal(mol.atom_coords(), HI.coords)
    assert mol.verbose == 0
    assert mol.basis == "def2-svp"


@pytest.mark.parametrize(
    ("basis", "z", "core"),
    [
        ("def2-svp", 53, 28),
        ("def2-tzvp", 47, 28),
        ("def2-svp", 36, 0),
        ("lanl2dz", 26, 10),
        ("lanl2dz", 6, 0),
        ("cc-pvdz-pp", 53, 28),
        ("bfd-vdz", 6, 2),
        ("ccecp-cc-pvdz", 8, 2),
        ("6-31g*", 8, 0),
        ("sto-3g", 53, 0),
    ],
)
def test_core_electrons_of_the_basis_set(basis, z, core):
    assert nelec_core(basis, z) == core


def test_ecp_gives_valence_charges_and_pyscf_energy_terms():
    mol = build_mole(HI, basis="def2-svp")
    reference = gto.M(
        atom=[("H", HI.coords[0]), ("I", HI.coords[1])],
        unit="Bohr",
        basis="def2-svp",
        ecp={"I": "def2-svp"},
        verbose=0,
    )
    assert mol.nelectron == reference.nelectron == 26
    assert mol.atom_charges().tolist() == [1, 25]
    assert mol.energy_nuc() == reference.energy_nuc()
    assert np.array_equal(mol.intor("ECPscalar"), reference.intor("ECPscalar"))


def test_silver_hydride_matches_pyscf():
    agh = molecule([47, 1], [[0, 0, 0], [0.1, 0.2, 3.0]])
    mol = build_mole(agh, basis="def2-svp")
    assert mol.nelectron == 47 - 28 + 1
    assert mol._ecp.keys() == {"Ag"}


def test_shell_ls_expand_general_contractions():
    # cc-pVDZ carbon in PySCF: one s shell with two contractions, then s, p, p, d
    carbon = gto.M(atom="C 0 0 0", basis="cc-pvdz", verbose=0)
    assert shell_ls(carbon) == ((0, 0, 0, 1, 1, 2),)
    assert sum(2 * l + 1 for l in shell_ls(carbon)[0]) == carbon.nao_nr()


@pytest.mark.parametrize(("basis", "cart"), [("def2-tzvp", False), ("6-31g*", True)])
def test_shell_ls_follow_the_ao_labels(basis, cart):
    mol = build_mole(OH_minus(), basis=basis, cart=cart)
    labels = [(int(l[0]), l[2]) for l in mol.ao_labels(fmt=None)]
    position = 0
    for atom, ls in enumerate(shell_ls(mol)):
        for l in ls:
            size = (l + 1) * (l + 2) // 2 if cart else 2 * l + 1
            for k in range(position, position + size):
                assert labels[k][0] == atom
                assert "spdf".index(labels[k][1].strip("0123456789")[0]) == l
            position += size
    assert position == mol.nao_nr()


def OH_minus():  # noqa: N802
    return molecule([8, 1], OH.coords, charge=-1)


@pytest.mark.parametrize(
    ("basis", "xc", "name"),
    [
        ("def2-svp", "pbe", "def2-universal-jfit"),
        ("def2-svp", "r2scan", "def2-universal-jfit"),
        ("def2-svp", "pbe0", "def2-svp-jkfit"),
        ("def2-tzvp", "hse06", "def2-tzvp-jkfit"),
        ("def2-svp", "hf", "def2-svp-jkfit"),
        ("cc-pvdz", "pbe0", "cc-pvdz-jkfit"),
    ],
)
def test_auxbasis_is_the_one_density_fit_picks(basis, xc, name):
    mol = build_mole(OH_minus(), basis=basis)
    resolved = auxiliary_basis(mol, xc)
    assert resolved.name == auxbasis_name(mol, xc) == name
    mf = dft.RKS(mol, xc=xc).density_fit()
    mf.with_df.build()
    assert resolved.mole._basis == mf.with_df.auxmol._basis
    assert resolved.mole.nao_nr() == mf.with_df.auxmol.nao_nr()


def test_generated_fitting_sets_have_readable_names():
    mol = build_mole(OH_minus(), basis="ano")
    resolved = auxiliary_basis(mol, "pbe0")
    assert resolved.name.startswith("O:even-tempered(")
    assert ",H:even-tempered(" in resolved.name
    mf = dft.RKS(mol, xc="pbe0").density_fit()
    mf.with_df.build()
    assert resolved.mole._basis == mf.with_df.auxmol._basis


@pytest.mark.parametrize(
    ("second", "basis", "name"),
    [
        ("ghost-H", {"Ne": "6-31g", "H": "def2-svp"}, "Ne:cc-pvdz-jkfit,GHOST-H:def2-svp-jkfit"),
        ("X-H2", {"ne": "6-31g", "h": "def2-svp"}, "Ne:cc-pvdz-jkfit,X-H2:def2-svp-jkfit"),
        ("H", {"default": "def2-svp"}, "def2-svp-jkfit"),
    ],
)
def test_fitting_sets_by_element_reach_every_label(second, basis, name):
    mol = gto.M(atom=f"Ne 0 0 .1; {second} .6 -.8 .9", basis=basis, spin=second == "H", verbose=0)
    fitting = dft.UKS(mol, xc="pbe").density_fit().with_df.build()
    resolved = auxiliary_basis(mol, "pbe")
    assert resolved.name == name
    assert resolved.mole.nao == fitting.auxmol.nao


def test_the_default_of_a_dictionary_goes_before_an_elements_own_entry():
    mol = gto.M(atom="O 0 0 0; H1 0 .1 1; H 0 .9 0", basis="sto-3g", verbose=0)
    given = {"default": "weigend", "H": "cc-pvdz-ri"}
    assert auxbasis_name(mol, "pbe", given) == "O:weigend,H1:weigend,H:cc-pvdz-ri"
    by_label = auxiliary_basis(mol, "pbe", given).mole
    assert by_label._basis["H1"] != by_label._basis["H"]
    with pytest.raises(InputError, match="auxbasis with functions for every atom, got none for H1"):
        auxiliary_basis(mol, "pbe", {"O": "weigend"})


def test_named_auxbasis_is_taken_as_given():
    mol = build_mole(OH_minus(), basis="def2-svp")
    resolved = auxiliary_basis(mol, "pbe", "def2-tzvp-jkfit")
    assert resolved.name == "def2-tzvp-jkfit"
    assert resolved.mole._basis["O"] == gto.format_basis({"O": "def2-tzvp-jkfit"})["O"]
    assert auxbasis_name(mol, "pbe", {"O": "weigend", "H": "weigend"}) == "weigend"


def test_element_outside_pyscfs_own_fitting_set_gets_a_generated_one():
    # PySCF names cc-pvdz-jkfit, which has no lithium, and stops with an error when it is built
    mol = build_mole(molecule([3, 1], [[0, 0, 0], [0, 0.3, 3.0]]), basis="cc-pvdz")
    assert dft.RKS(mol, xc="pbe0").density_fit().with_df.auxbasis == "cc-pvdz-jkfit"
    resolved = auxiliary_basis(mol, "pbe0")
    assert resolved.name.startswith("Li:even-tempered(")
    assert resolved.name.endswith("),H:cc-pvdz-jkfit")
    assert resolved.mole._basis["H"] == gto.format_basis({"H": "cc-pvdz-jkfit"})["H"]


def test_mixed_choice_of_pyscf_is_named_per_element():
    mol = build_mole(molecule([20, 8], [[0, 0, 0], [0, 0.3, 3.5]]), basis="6-31g*")
    resolved = auxiliary_basis(mol, "pbe0")
    assert resolved.name == "Ca:even-tempered(21s18p15d8f1g),O:cc-pvdz-jkfit"


def test_pseudopotential_without_core_electrons_is_kept():
    # ccECP hydrogen replaces no electron but smooths the nucleus
    mol = build_mole(
        molecule([8, 1, 1], [[0, 0, 0], [0, 1, 1.5], [1, -1, 1]]), basis="ccecp-cc-pvdz"
    )
    assert mol._ecp.keys() == {"O", "H"}
    assert mol.nelectron == 8


FRAME = {"file": "set.xyz", "frame": 7}


@pytest.mark.parametrize(
    ("make", "basis", "words"),
    [
        (lambda: OH, "def2-svvp", ["'def2-svvp'", "did you mean 'def2-svp'"]),
        (lambda: OH, "gth-dzvp", ["GTH", "def2-svp"]),
        (lambda: HI, "6-31g*", ["no functions for I", "choose another basis"]),
        (lambda: OH, "def2-svp", ["9 electrons", "odd spin", "got spin 0", "add spin=1"]),
        (
            lambda: molecule(OH.numbers, OH.coords, charge=-1, spin=1),
            "def2-svp",
            ["10 electrons", "even spin", "got spin 1", "multiplicity 1 is spin=0"],
        ),
        (
            lambda: molecule(OH.numbers, OH.coords, charge=9, **FRAME),
            "def2-svp",
            ["set.xyz frame 7: ", "got 0", "charge=9"],
        ),
        (lambda: molecule(OH.numbers, OH.coords, charge=12), "def2-svp", ["got -3"]),
        (lambda: molecule(OH.numbers, OH.coords, spin=11), "def2-svp", ["at most 9", "11"]),
        (lambda: molecule(OH.numbers, OH.coords, spin=-1), "def2-svp", [">= 0", "got -1"]),
        (
            lambda: molecule([1, 1], [[0, 0, 0], [0, 0, 0.1]], **FRAME),
            "def2-svp",
            ["set.xyz frame 7: ", "1 (H) and 2 (H)", "0.0529 angstrom", "one point"],
        ),
        (
            lambda: molecule([1, 1], [[0, 0, 0], [0, np.nan, 1.4]], **FRAME),
            "def2-svp",
            ["set.xyz frame 7: ", "finite", "(0, nan, 1.4)", "atom 2"],
        ),
        (lambda: molecule([0], [[0, 0, 0]]), "def2-svp", ["1 to 118", "got 0"]),
        (
            lambda: Molecule(numbers=np.zeros(0, dtype=int), coords=np.zeros((0, 3))),
            "def2-svp",
            ["at least one atom"],
        ),
    ],
)
def test_input_errors_are_one_line_that_names_value_and_cure(make, basis, words):
    with pytest.raises(InputError) as error:
        build_mole(make(), basis=basis)
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_basis_checks_work_without_a_molecule():
    valid_basis("def2-svp", [1, 6, 53])
    valid_auxbasis("def2-universal-jfit", [1, 6])
    valid_auxbasis("autoaux", [1, 6])
    with pytest.raises(InputError, match=r"got auxbasis 'def2-universal-jft'.*did you mean"):
        valid_auxbasis("def2-universal-jft", [1])
    with pytest.raises(InputError, match="no functions for U"):
        valid_basis("def2-svp", [1, 92], where="a.xyz frame 0: ")
    with pytest.raises(InputError, match="'ccecp28' has no functions for H"):
        valid_basis("ccecp28", [1])
    with pytest.raises(InputError, match="got basis '/no/such/file'"):
        valid_basis("/no/such/file", [1])


def test_basis_from_a_text():
    text = "H    S\n  1.3 0.5\n  0.2 0.6\n"
    mol = build_mole(molecule([1, 1], [[0, 0, 0], [0, 0.1, 1.4]]), basis=text)
    assert mol.nao_nr() == 2
    # exponents 0.4 to 2.6 in steps of 2: ceil(log2(1 + 2.6 / 0.4)) = 3
    assert auxbasis_name(mol, "pbe") == "even-tempered(3s)"
    with pytest.raises(InputError, match=r"basis set 'text \[.{8}\]' has no functions for O"):
        valid_basis(text, [1, 8])
    fitted = auxiliary_basis(mol, "pbe", "# fit\nH S\n 1.0 1.0\nH P\n 0.9 1.0\n")
    assert fitted.name.startswith("fit [")
    assert fitted.mole.nao == 8


def test_a_named_basis_gives_the_molecule_that_pyscf_builds():
    coords = [[0, 0, 0], [0, 0.1, 3.1]]
    mol = build_mole(molecule([53, 1], coords), basis="def2-svp")
    theirs = gto.M(
        atom=[["I", coords[0]], ["H", coords[1]]], unit="Bohr", basis="def2-svp", ecp="def2-svp"
    )
    assert mol._basis == theirs._basis
    assert mol._ecp == theirs._ecp
    assert mol.basis == "def2-svp"
    assert auxbasis_name(mol, "pbe") == auxbasis_name(theirs, "pbe")
