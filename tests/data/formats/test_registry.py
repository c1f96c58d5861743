"""The one list of formats, and what the command line says of it."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
import torch

from deeph_zero.ao.convention import SHELL_ORDERS
from deeph_zero.data.formats.conventions import CONVENTIONS
from deeph_zero.data.formats.deeph import DeepHSink
from deeph_zero.data.formats.registry import (
    FORMATS,
    _class,
    check_target,
    open_source,
    recognise,
    target_of,
)
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError
from deeph_zero.settings.convert_config import READ, WRITTEN

from .conftest import written


def test_the_command_line_knows_every_format():
    assert set(READ) == {name for name, found in FORMATS.items() if found.source}
    assert set(WRITTEN) == {name for name, found in FORMATS.items() if found.sink}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_its_classes_and_its_conventions(name):
    found = FORMATS[name]
    for attribute in filter(None, (found.source, found.sink)):
        assert callable(_class(name, attribute))
    if found.source:
        assert CONVENTIONS[name].order in SHELL_ORDERS


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("openmx.out", r"expected a \.scfout file beside OpenMX's output"),
        ("MoS2_in.dat", r"expected a \.scfout file beside OpenMX's input"),
        ("water.fdf", r"expected an \.HSX file beside SIESTA's input"),
        ("rs_hamiltonian.out", "expected basis-indices.out beside"),
        ("VSC", "deeph-zero project makes matrices of it"),
        ("notes.txt", "expected Hamiltonian data of one of the formats"),
    ],
)
def test_a_folder_that_is_known_but_incomplete_says_what_is_missing(tmp_path, name, message):
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError, match=message):
        recognise(tmp_path)


# ---- by content -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.dat", b"\x89HDF\r\n\x1a\n", "labels"), ("a.h5", b"text", "labels"),
        ("a.HDF5", b"", "labels"), ("a.HSX", b"x", "hsx"), ("a.scfout", b"x", "openmx"),
        ("a.lmdb", b"x", "sphnet"), ("a.mdb", b"", "sphnet"), ("a.db", b"", "qh9"),
    ],
)  # fmt: skip
def test_files(tmp_path, name, content, found):
    (tmp_path / name).write_bytes(content)
    if name == "a.db":
        sqlite3.connect(tmp_path / name).close()
    assert recognise(tmp_path / name) == found


def test_what_is_none(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(WholeFileError, match=r"of one of the formats labels, .*; say which with"):
        recognise(tmp_path / "a.txt")
    with pytest.raises(WholeFileError, match="there is no such file"):
        recognise(tmp_path / "none")


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("CREATE TABLE data (id INTEGER, N INTEGER, Z BLOB, pos BLOB, Ham BLOB)", "qh9"),
        ("CREATE TABLE data (id INTEGER, R BLOB, H BLOB)", "nabladft"),
        ("CREATE TABLE data (id INTEGER, R BLOB, H BLOB, Ham BLOB)", "qh9"),
        ("CREATE TABLE systems (id INTEGER, numbers BLOB)", "schnorb"),
        ("CREATE TABLE other (id INTEGER)", "qh9"),
    ],
)
def test_databases(tmp_path, statement, found):
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as db:
        db.execute(statement)
        db.commit()
    assert recognise(tmp_path / "a.db") == found


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["POSCAR"], "deeph"), (["dft/0/POSCAR", "dft/0/x"], "deeph"), (["x/POSCAR"], "deeph"),
        (["orbital_types.dat", "POSCAR"], "deeph-legacy"), (["atomic_numbers.dat"], "dftio"),
        (["basis-indices.out"], "aims"), (["a.hsx"], "hsx"), (["b/a.scfout"], "openmx"),
    ],
)  # fmt: skip
def test_folders(tmp_path, files, found):
    for name in files:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert recognise(tmp_path / "in") == found


# ---- outputs ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.h5", "labels"), ("a.HDF5", "labels"), ("a.db", "qh9"), ("a.lmdb", "sphnet"),
        ("a.cube", "cube"), ("a.chk", "pyscf"), ("wannier90_hr.dat", "wannier90"), ("a", "deeph"),
        ("a.b/c", "deeph"),
    ],
)  # fmt: skip
def test_what_a_name_asks_for(name, found):
    assert target_of(Path(name)) == found


def test_names_that_ask_for_nothing(tmp_path):
    with pytest.raises(
        InputError, match=r"a\.xyz: expected a name ending in \.h5, .* for a folder;"
    ):
        target_of(Path("a.xyz"))
    (tmp_path / "a.xyz").mkdir()
    assert target_of(tmp_path / "a.xyz") == "deeph"


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [
        ("aims", 1, "expected a format to write, FHI-aims folder .text. is only read"),
        ("cube", 2, "expected one structure, got 2; Gaussian cube of the density holds one: use"),
        ("deeph", 1, "exists and is not empty"),
    ],
)
def test_outputs_that_cannot_be(tmp_path, name, count, words):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=words):
        check_target(tmp_path, name, overwrite=False, count=count)


def test_sources_that_cannot_be(tmp_path):
    (tmp_path / "a.h5").write_text("x")
    opened = {"shells_of": lambda *_: (), "basis": "sto-3g"}
    with pytest.raises(
        InputError, match="expected a format to read, PySCF checkpoint is only writ"
    ):
        open_source(tmp_path / "a.chk", "pyscf", **opened)
    with pytest.raises(InputError, match=rf"^{tmp_path}/a\.h5: expected labels in HDF5"):
        open_source(tmp_path / "a.h5", "labels", **opened)


def test_a_unit_is_that_of_the_format_or_another(tmp_path, crystal):
    folder = written(tmp_path / "a", DeepHSink, crystal)
    opened = {"shells_of": lambda *_: (), "basis": "sto-3g"}
    plain, other = (
        open_source(folder, "deeph", **opened, unit=unit).matrices(0).fock.values
        for unit in (None, "hartree")
    )
    torch.testing.assert_close(other, plain * CONVENTIONS["deeph"].energy ** -1)
