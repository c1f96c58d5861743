"""Basis sets by name: PySCF's library, never a file of the working folder."""

import pytest

from deeph_zero.integrals import basis_sets
from deeph_zero.integrals.basis_sets import in_library, shells_of


@pytest.mark.parametrize("name", ["gth-szv", "gth-dzvp-molopt-sr", "def2-SVP", "6-31G*"])
def test_names_of_the_library_are_known_whatever_files_there_are(name, tmp_path, monkeypatch):
    basis_sets._from_library.cache_clear()
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("raise SystemExit")
    assert in_library(name)
    assert shells_of(name, "H")


def test_a_file_makes_a_name_unknown_only_while_it_is_there(tmp_path, monkeypatch):
    """The answer of a moment is not kept."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(basis_sets, "in_library", lambda _: False)
    basis_sets._from_library.cache_clear()
    (tmp_path / "sto-3g").write_text("raise SystemExit")
    assert shells_of("sto-3g", "H") is None
    (tmp_path / "sto-3g").unlink()
    assert shells_of("sto-3g", "H")
    basis_sets._from_library.cache_clear()
