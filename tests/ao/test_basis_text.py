"""Basis sets as text: numbers only, the functions PySCF reads, and no Python ever."""

import numpy as np
import pytest
from pyscf import gto

from deeph_zero.ao import basis_text
from deeph_zero.ao.basis_text import canonical, parse_basis
from deeph_zero.errors import InputError
from deeph_zero.integrals import basis_sets

CODE = "open('ran_code','w').close()or(0.15)"
SMALL = "H S\n 3.42 0.15\n 0.62 0.53\nH P\n 0.8 1\n"
KRYPTON = f"{SMALL}ECP\nKr nelec 28\nKr ul\n2 1.0D0 0.0\n1 2.5 -1.5\nKr S\n2 70.0 1.4d+2\nEND\n"
BAD = {
    "code in a row": (f"H S\n 3.42 {CODE}\n", r"line 2: expected a number, got .*; correct it"),
    "code alone": (f"H S\n{CODE}\n", r"line 2: expected .*"),
    "code for a name": (f"{CODE} S\n 1 1\n", r"line 1: expected an element"),
    "code for a letter": (f"H {CODE}\n 1 1\n", r"line 1: expected an element and one of S"),
    "code in an ECP": (
        f"{SMALL}ECP\nKr nelec 28\nKr ul\n2 1.0 {CODE}\n",
        r"line 9: expected a",
    ),
    "code for electrons": (f"{SMALL}ECP\nKr nelec {CODE}\n", r"line 7: expected 'nelec N'"),
    "code for a power": (f"{SMALL}ECP\nKr ul\n{CODE} 1 1\n", r"line 8: expected an element"),
    "underscore": ("H S\n 1_0 1.0\n", "expected a number, got '1_0'"),
    "nan": ("H S\n nan 1.0\n", "expected an element, got 'nan'"),
    "infinite": ("H S\n 1e400 1.0\n", "a finite number"),
    "infinite word": ("H S\n 1.0 inf\n", "expected a number, got 'inf'"),
    "negative": ("H S\n -1.0 1.0\n", "expected a positive exponent and one or more coeff"),
    "no coefficient": ("H S\n 1.0\n", "expected a positive exponent"),
    "lengths": ("H S\n 1.0 1.0 0.5\n 2.0 1.0\n", "line 3: .* and 2 coefficients"),
    "sp": ("H SP\n 1.0 1.0\n", "and 2 coefficients"),
    "no shell": ("BASIS\n 1.0 1.0\n", "line 2: expected 'ELEMENT S'"),
    "no rows": ("H S\nEND\n", "one S shell of H has none"),
    "zeros": ("H S\n 1.0 0.0\n", "one S shell of H has none"),
    "nothing": ("BASIS\nEND\n", "expected functions in NWChem's format, got none"),
    "gaussian": ("H 0\nS 2 1.00\n 3.4 0.1\n****\n", "line 1: expected an element and one of"),
    "cartesian": ('BASIS "ao basis" CARTESIAN\nH S\n 1 1\n', "got CARTESIAN"),
    "electrons": (f"{SMALL}ECP\nKr nelec 99\n", "fewer electrons than Kr has"),
    "powers": (f"{SMALL}ECP\nKr ul\n9 1 1\n", "a power of r from 0 to 6"),
    "library": ("H library sto-3g\n", "write it as in NWChem"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_number_is_refused_and_not_run(tmp_path, monkeypatch, case):
    text, words = BAD[case]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words) as info:
        parse_basis(text)
    assert len(str(info.value).splitlines()) == 1
    with pytest.raises(InputError):
        basis_sets.valid_basis(text, [1])
    assert list(tmp_path.iterdir()) == []


def test_d_exponents_case_comments_and_both_sections():
    text = 'basis "ao basis" spherical # c\nh s # c\n 1.0D+01 .5\nEND\n' + KRYPTON
    found = parse_basis(text)
    assert found.shells == {
        "H": [[0, [10.0, 0.5]], [0, [3.42, 0.15], [0.62, 0.53]], [1, [0.8, 1.0]]]
    }
    none = [[], [], [], [], [], [], []]
    ul, s = [*none], [*none]
    ul[1], s[2] = [[2.5, -1.5]], [[70.0, 140.0]]
    assert found.ecps == {"Kr": [28, [[-1, ul], [0, s]]]}


@pytest.mark.parametrize("name", ["def2-svp", "6-31g", "lanl2dz", "ano", "cc-pvtz"])
def test_a_text_gives_the_functions_that_pyscf_has_under_the_name(name):
    for symbol in ("C", "I") if name in ("def2-svp", "lanl2dz") else ("C",):
        shells = gto.basis.load(name, symbol, optimize=False)
        ecp = gto.basis.load_ecp(name, symbol) if name in ("def2-svp", "lanl2dz") else []
        ecps = {symbol: ecp} if ecp else {}
        text = basis_text.written(basis_text.BasisSet({symbol: shells}, ecps), name)
        assert basis_sets.shells_of(text, symbol) == gto.basis.load(name, symbol)
        assert basis_sets.ecp_of(text, symbol) == ecp
        assert canonical(text) == text


def test_every_digit_survives():
    values = np.random.default_rng(3).uniform(0.1, 9.0, (5, 2)).tolist()
    text = "H S\n" + "".join(f"{e!r} {c!r}\n" for e, c in values)
    assert parse_basis(canonical(text, "mine.nw")).shells["H"] == [[0, *values]]


def test_labels_tell_texts_apart_and_show_no_control_characters():
    one, other = (canonical(f"H S\n {x} 1.0\n", "a/b\x1b[31m.nw") for x in (1.0, 2.0))
    names = [basis_text.label_of(text) for text in (one, other)]
    assert names[0] != names[1]
    assert all(name.startswith("a/b [31m.nw [") and name.isprintable() for name in names)
    assert basis_text.label_of("def2-svp") == "def2-svp"


def test_same_basis():
    whole = canonical(KRYPTON.replace("ECP", "O S\n 2.0 1.0\nECP", 1), "whole")
    part = basis_text.for_elements(whole, ["H"])
    assert parse_basis(part).shells.keys() == {"H"}
    assert basis_text.same_basis(part, whole)
    assert not basis_text.same_basis(part, canonical("H S\n 1.0 1.0\n"))
    assert not basis_text.same_basis(part, "sto-3g")
    assert basis_text.same_basis("def2-SVP", "def2svp")


def test_a_file_in_the_working_folder_is_not_taken_for_a_name(tmp_path, monkeypatch):
    """PySCF opens a file of the name first, and would run what is in it."""
    expected = gto.basis.load("sto-3g", "H")
    monkeypatch.chdir(tmp_path)
    for name in ("sto-3g", "STO3G", "6-31g", "6-31g**", "own.nw", "def2-svp@1s", "bfd"):
        (tmp_path / name).write_text(f"#BASIS SET:\nH S\n 3.42 {CODE}\n")
    before = sorted(tmp_path.iterdir())
    basis_sets._from_library.cache_clear()
    basis_sets._ecp_from_library.cache_clear()
    assert basis_sets.shells_of("sto-3g", "H") == expected
    for name in ("STO3G", "6-31g", "6-31g**"):
        assert basis_sets.covers(name, 1)
    basis_sets.nelec_core("bfd", 14)
    with pytest.raises(InputError, match=r"got basis 'own.nw'; is it a file"):
        basis_sets.valid_basis("own.nw", [1])
    with pytest.raises(InputError, match="expected a basis set PySCF knows"):
        basis_sets.valid_basis("../x/own.nw", [1])
    assert sorted(tmp_path.iterdir()) == before
