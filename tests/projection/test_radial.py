"""Pseudopotentials and orbitals of other programs: what is refused, in one line with the file."""

import numpy as np
import pytest

from deeph_zero.data.radial.choice import choose_basis, choose_pseudopotentials
from deeph_zero.data.radial.ion import read_ion
from deeph_zero.data.radial.upf import read_upf
from deeph_zero.errors import InputError

R = np.linspace(0, 3, 301)
SPACING = np.full(301, 0.01)


def carbon(files, **header):
    beta = R * files.gth(0, 1, 0.4, R)
    return files.upf(
        [(0, beta), (1, R * files.gth(1, 1, 0.5, R))], np.diag([3.0, 2]), R, SPACING, **header
    )


BAD_UPF = {
    "document type": (lambda t: '<!DOCTYPE x [<!ENTITY a "b">]>\n' + t, "plain XML, got <!DOC"),
    "entity": (lambda t: t.replace("</UPF>", "<!ENTITY x 'y'></UPF>"), "expected plain XML"),
    "version 1": (lambda t: t.replace('<UPF version="2.0.1">', ""), "got version 1; convert"),
    "not xml": (lambda t: t.replace("</PP_NONLOCAL>", ""), "expected XML, got a fault"),
    "another": (lambda _: "data\n", "got another kind of file"),
    "later": (lambda t: t.replace('"2.0.1"', '"3.0"'), "expected UPF version 2"),
    "no grid": (lambda t: t.replace("PP_RAB", "PP_RAP"), "expected PP_MESH/PP_RAB"),
    "few points": (lambda t: t.replace("<PP_RAB>1", "<PP_RAB>1.0 1"), "PP_RAB: expected 301"),
    "no beta": (lambda t: t.replace("PP_BETA.2", "PP_BETA.3"), "expected PP_NONLOCAL/PP_BETA.2"),
    "l": (lambda t: t.replace('angular_momentum="1"', 'angular_momentum="9"'), "angular momentum"),
    "word": (lambda t: t.replace("<PP_DIJ>3", "<PP_DIJ>x3"), "PP_DIJ: expected numbers, got 'x3"),
    "nan": (lambda t: t.replace("<PP_DIJ>3.000000000000000E+00", "<PP_DIJ>nan"), "DIJ: expected f"),
    "count": (lambda t: t.replace('number_of_proj="2"', 'number_of_proj="999"'), "number_of_proj"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_UPF)
def test_bad_upf(files, name):
    spoil, message = BAD_UPF[name]
    path = files.write("C.upf", spoil(carbon(files)))
    with pytest.raises(InputError, match=message) as caught:
        read_upf(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"us": "T"}, "got ultrasoft, whose non-local part changes"),
        ({"kind": "US"}, "got ultrasoft"),
        ({"paw": "T", "us": "T", "kind": "PAW"}, "got PAW"),
        ({"kind": "1/r"}, "expected pseudo_type NC"),
        ({"element": "Xx"}, "expected an element, got 'Xx'"),
        ({"valence": 3.5}, "expected a whole z_valence"),
        ({"so": "maybe"}, "expected T or F as has_so"),
        ({"so": "T"}, "expected PP_SPIN_ORB/PP_RELBETA.1"),
        ({"so": "T", "spins": [0.5, 2.5]}, "expected j = 1"),
    ],
)
def test_other_kinds_of_pseudopotentials(files, header, message):
    with pytest.raises(InputError, match=message):
        read_upf(files.write("C.upf", carbon(files, **header)))


def test_strengths_between_unlike_channels_are_refused(files):
    beta = R * files.gth(0, 1, 0.4, R)
    for strengths, message in (
        ([[3, 0.5], [0.5, 2]], "zeros between different angular momenta"),
        ([[3, 0.5], [0.1, 2]], "expected a symmetric matrix"),
    ):
        text = files.upf([(0, beta), (1, beta)], np.array(strengths), R, SPACING)
        with pytest.raises(InputError, match=message):
            read_upf(files.write("C.upf", text))


def orbital(power=1.0):
    r = np.linspace(0, 6, 601)
    values = np.exp(-power * r**2)
    norm = np.sqrt((values**2 * r**2).sum() * r[1])
    return values / norm


BAD_ION = {
    "cut": (lambda t: t[:4000], "the file ends|expected 2 numbers"),
    "head": (lambda t: t[:30], "the file has no head"),
    "scaled": (
        lambda t: t.replace("E", "e").replace(" 0 2 1 0 1.0", " 1 2 1 0 1.0"),
        "its norm is",
    ),
    "word": (lambda t: t.replace("601 1", "601 x1"), "line 14: expected 3 numbers"),
    "points": (
        lambda t: t.replace(" 601 ", " 0 "),
        "expected an angular momentum up to 6 and points",
    ),
    "element": (lambda t: t.replace("\n6\n", "\n600\n"), "expected an atomic number"),
    "no orbitals": (lambda t: t.replace("# PAOs", "# none"), "expected a line '# PAOs:'"),
}


@pytest.mark.parametrize("name", BAD_ION)
def test_bad_ion(files, name):
    spoil, message = BAD_ION[name]
    text = files.ion("C", 6, 4, [(0, orbital())], 6.0)
    assert read_ion(files.write("good.ion", text)).orbitals[0].norm() == pytest.approx(1, abs=1e-12)
    path = files.write("C.ion", spoil(text))
    with pytest.raises(InputError, match=message) as caught:
        read_ion(path)
    assert str(caught.value).startswith(f"{path}: ")


def choose(words, numbers=(6, 1)):
    return choose_pseudopotentials([str(w) for w in words], numbers)


def test_files_for_some_elements_and_a_name_for_the_others(files):
    upf = files.write("C.upf", carbon(files))
    found = choose([upf, "gth-pade"])
    assert set(found.upf) == {6}
    assert set(found.gth) == {"H"}
    assert (found.valence(6), found.valence(1)) == (4, 1)
    bare = choose(["none"])
    assert (bare.valence(6), bare.gth) == (6, {})


def test_wrong_choices_of_pseudopotentials(files, monkeypatch):
    upf = files.write("C.upf", carbon(files))
    for words, message in (
        ([], "expected a pseudopotential for H, C, got none"),
        ([upf], "expected a pseudopotential for H, got none"),
        ([upf, upf], "expected one file of C"),
        (["gth-pade", "gth-pbe"], "expected one name"),
        (["gth-nothing"], "expected a UPF file or a name"),
        ([files.folder / "none.upf"], "cannot be read"),
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
    monkeypatch.chdir(files.folder)
    files.write("gth-pade", "#")
    with pytest.raises(InputError, match="expected the name of GTH"):
        choose(["gth-pade"])


def test_basis_and_pseudopotential_are_for_the_same_electrons(files):
    heavy = choose(["none"], [6])
    with pytest.raises(InputError, match=r"functions of C for 6 electrons, .* got some for 4"):
        choose_basis(["gth-szv"], [6], heavy, str)
    light = choose(["gth-pade"], [6])
    assert len(choose_basis(["gth-szv"], [6], light, str).gaussian["C"]) == 2
    ion = str(files.write("C.ion", files.ion("C", 6, 4, [(0, orbital())], 6.0)))
    assert choose_basis([ion], [6], light, str).numerical[6].number == 6
    with pytest.raises(InputError, match="got both"):
        choose_basis([ion, "gth-szv"], [6], light, str)
    with pytest.raises(InputError, match="expected one Gaussian basis"):
        choose_basis(["gth-dzvp", "gth-szv"], [6], light, str)
    with pytest.raises(InputError, match="functions for C, nothing has none"):
        choose_basis(["nothing"], [6], light, str)
    with pytest.raises(InputError, match=r"expected a .ion file for H"):
        choose_basis([ion], [6, 1], choose(["gth-pade"]), str)
