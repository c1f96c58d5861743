"""Basis files that users name: numbers in, or one line with the file and its line."""

import numpy as np
import pytest
from pyscf import gto

from deeph_zero.ao import basis_text
from deeph_zero.errors import InputError
from deeph_zero.settings.basis_file import read_basis_file

SMALL = "H S\n 3.42 0.15\n 0.62 0.53\nH P\n 0.8 1\n"


def test_a_file_becomes_its_numbers(tmp_path):
    path = tmp_path / "mine.nw"
    path.write_bytes(b"\xef\xbb\xbf# a comment\r\n" + SMALL.replace("\n", "\r\n").encode())
    text = read_basis_file(str(path))
    assert basis_text.same_basis(text, basis_text.canonical(SMALL))
    found = gto.M(atom="H 0 0 0", basis={"H": gto.basis.parse(text, "H")}, spin=1, verbose=0)
    np.testing.assert_allclose(found.bas_exp(0), [3.42, 0.62])
    assert found.nao == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected"),
        (b"H S\n 1.0 open('x','w')\n", "line 2: expected a"),
        (b"\x00\xff\xfe binary", "expected"),
        (b"H S\n nan 1.0\n", "expected"),
    ],
)
def test_what_is_no_basis_set_names_the_file(tmp_path, content, words):
    path = tmp_path / "b.nw"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as info:
        read_basis_file(path)
    assert str(info.value).startswith(f"{path}: ")
    assert len(str(info.value).splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.nw"]


def test_a_link_that_leads_nowhere(tmp_path):
    (tmp_path / "b.nw").symlink_to("none")
    with pytest.raises(InputError, match=r"b\.nw: expected a basis file, there is none; check"):
        read_basis_file(tmp_path / "b.nw")


def test_files_that_are_none(tmp_path):
    big = tmp_path / "big.nw"
    with big.open("wb") as file:
        file.truncate(basis_text.MAX_BYTES + 2)
    for path, words in (
        (tmp_path / "no.nw", "there is none"),
        (tmp_path, "cannot read the basis set"),
        ("/dev/zero", "this is a device"),
        (big, "over 16 MB"),
    ):
        with pytest.raises(InputError, match=words) as info:
            read_basis_file(path)
        assert str(info.value).startswith(f"{path}: ")
