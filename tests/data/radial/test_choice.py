"""Which file or name gives each element its pseudopotential and functions."""

import pytest

from deeph_zero.data.radial.choice import choose_basis, choose_pseudopotentials
from deeph_zero.errors import InputError

from .functions import carbon, orbital


def choose(words, numbers=(6, 1)):
    return choose_pseudopotentials([str(w) for w in words], numbers)


def test_files_for_some_elements_and_a_name_for_the_others(radial_files):
    upf = radial_files.write("C.upf", carbon(radial_files))
    found = choose([upf, "gth-pade"])
    assert set(found.upf) == {6}
    assert set(found.gth) == {"H"}
    assert (found.valence(6), found.valence(1)) == (4, 1)
    bare = choose(["none"])
    assert (bare.valence(6), bare.gth) == (6, {})


def test_wrong_choices_of_pseudopotentials(radial_files, monkeypatch):
    upf = radial_files.write("C.upf", carbon(radial_files))
    for words, message in (
        ([], "expected a pseudopotential for H, C, got none"),
        ([upf], "expected a pseudopotential for H, got none"),
        ([upf, upf], "expected one file of C"),
        (["gth-pade", "gth-pbe"], "expected one name"),
        (["gth-nothing"], "expected a UPF file or a name"),
        ([radial_files.folder / "none.upf"], "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            choose(words)
    with pytest.raises(InputError, match="is of C, which is not in the structure"):
        choose([upf, "gth-pade"], [1])
    with pytest.raises(InputError, match="expected an element without a file"):
        choose([upf, "gth-pade"], [6])
    with pytest.raises(InputError, match="expected a pseudopotential of Og"):
        choose(["gth-pade"], [118])
    # PySCF would read a file of the name of a family
    monkeypatch.chdir(radial_files.folder)
    radial_files.write("gth-pade", "#")
    with pytest.raises(InputError, match="expected the name of GTH"):
        choose(["gth-pade"])


def test_basis_and_pseudopotential_are_for_the_same_electrons(radial_files):
    heavy = choose(["none"], [6])
    with pytest.raises(InputError, match=r"functions of C for 6 electrons, .* got some for 4"):
        choose_basis(["gth-szv"], [6], heavy, str)
    light = choose(["gth-pade"], [6])
    assert len(choose_basis(["gth-szv"], [6], light, str).gaussian["C"]) == 2
    ion = str(radial_files.write("C.ion", radial_files.ion("C", 6, 4, [(0, orbital())], 6.0)))
    assert choose_basis([ion], [6], light, str).numerical[6].number == 6
    with pytest.raises(InputError, match="got both"):
        choose_basis([ion, "gth-szv"], [6], light, str)
    with pytest.raises(InputError, match="expected one Gaussian basis"):
        choose_basis(["gth-dzvp", "gth-szv"], [6], light, str)
    with pytest.raises(InputError, match="functions for C, nothing has none"):
        choose_basis(["nothing"], [6], light, str)
    with pytest.raises(InputError, match=r"expected a .ion file for H"):
        choose_basis([ion], [6, 1], choose(["gth-pade"]), str)
