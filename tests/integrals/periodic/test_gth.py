"""GTH pseudopotentials by name alone."""

import pytest
from pyscf.pbc.gto import pseudo

from deeph_zero.errors import InputError
from deeph_zero.integrals.periodic.gth import gth_parameters, is_gth, valence_of


@pytest.mark.parametrize("name", ["gth-pbe", "gth-pade-q4", "GTH-BLYP", "gthpade"])
def test_names_of_the_library(name):
    assert is_gth(name)


@pytest.mark.parametrize("name", ["def2-svp", "gth", "pbe", "C.upf", "gth-pbe.txt", ""])
def test_other_names(name):
    assert not is_gth(name)
    with pytest.raises(InputError, match="name of GTH pseudopotentials"):
        gth_parameters(name, "C")


@pytest.mark.parametrize(("symbol", "electrons"), [("C", 4), ("Si", 4), ("Ga", 13), ("H", 1)])
def test_numbers_are_pyscfs(symbol, electrons):
    found = gth_parameters("gth-pbe", symbol)
    assert found == pseudo.load("gth-pbe", symbol)
    assert valence_of(found) == electrons


def test_an_element_without_one_is_named():
    with pytest.raises(InputError, match="a pseudopotential of Og, gth-pbe has none"):
        gth_parameters("gth-pbe", "Og")


def test_a_file_of_that_name_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gth-pbe").write_text("no pseudopotential")
    with pytest.raises(InputError, match="got 'gth-pbe'"):
        gth_parameters("gth-pbe", "C")
