"""SIESTA's .ion radial_files: orbitals, or one line that says what is wrong."""

import pytest

from deeph_zero.data.radial.ion import read_ion
from deeph_zero.errors import InputError

from .functions import orbital

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
def test_bad_ion(radial_files, name):
    spoil, message = BAD_ION[name]
    text = radial_files.ion("C", 6, 4, [(0, orbital())], 6.0)
    assert read_ion(radial_files.write("good.ion", text)).orbitals[0].norm() == pytest.approx(
        1, abs=1e-12
    )
    path = radial_files.write("C.ion", spoil(text))
    with pytest.raises(InputError, match=message) as caught:
        read_ion(path)
    assert str(caught.value).startswith(f"{path}: ")
