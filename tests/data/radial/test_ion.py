"""SIESTA's .ion files: orbitals, or one line that says what is wrong."""

import gzip

import numpy as np
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


def test_orbitals_are_those_of_the_file(radial_files):
    """R(r)/r^l on points, normalised; the quadrature is Simpson's."""
    r = np.linspace(0, 6, 601)
    tables = []
    for l in (0, 2):
        values = np.exp(-1.1 * r**2)
        tables.append((l, values / np.sqrt((values**2 * r ** (2 * l + 2)).sum() * r[1])))
    path = radial_files.write("C.ion", radial_files.ion("C", 6, 4, tables, 6.0))
    found = read_ion(path)
    assert (found.number, found.valence, [f.l for f in found.orbitals]) == (6, 4.0, [0, 2])
    for function, (l, values) in zip(found.orbitals, tables, strict=True):
        np.testing.assert_allclose(function.r, r, atol=1e-12)
        np.testing.assert_allclose(function.values, values * r ** (l + 1), rtol=1e-6, atol=1e-12)
        assert function.norm() == pytest.approx(1, abs=1e-12)


def test_packed_files_and_files_without_preamble(radial_files):
    text = radial_files.ion("C", 6, 4, [(0, orbital())], 6.0)
    bare = text.split("</preamble>\n")[1]
    plain = read_ion(radial_files.write("C.ion", bare))
    packed = radial_files.folder / "C.ion.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    np.testing.assert_array_equal(read_ion(packed).orbitals[0].values, plain.orbitals[0].values)


MORE_BAD = {
    "uneven points": (
        lambda t: t.replace(" 2.0000000000000000e-02 ", " 2.5e-02 ", 1),
        "bohr apart",
    ),
    "too few": (lambda t: t.replace("1 1\n0 0", "1 2\n0 0"), "expected an orbital|expected 1 num"),
    "no orbital": (lambda t: t.replace("1 1\n0 0", "1 0\n0 0"), "a number of orbitals in line"),
    "half an orbital": (
        lambda t: t.replace("1 1\n0 0", "1 1.5\n0 0"),
        "a number of orbitals in line",
    ),
    "half a point": (lambda t: t.replace(" 601 ", " 600.5 "), "angular momentum up to 6 and"),
    "half an atom": (lambda t: t.replace("\n6\n", "\n6.5\n"), "expected an atomic number"),
    "l": (lambda t: t.replace(" 0 2 1 0 1.0", " 7 2 1 0 1.0"), "angular momentum up to 6"),
    "step": (lambda t: t.replace(" 601 1", " 601 -1"), "expected an angular momentum up to 6 and"),
}


@pytest.mark.parametrize("name", MORE_BAD)
def test_what_else_is_no_ion(radial_files, name):
    spoil, message = MORE_BAD[name]
    text = radial_files.ion("C", 6, 4, [(0, orbital())], 6.0)
    with pytest.raises(InputError, match=message):
        read_ion(radial_files.write("C.ion", spoil(text)))
