"""LMDB files page by page: values of every size, and damage that ends no process."""

import os
import sys

import numpy as np
import pytest

from deeph_zero.data.formats.lmdb_file import LMDBFile, LMDBWriter
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError

from .conftest import lmdb_file

lmdb = pytest.importorskip("lmdb", reason="the extra lmdb is not installed")


@pytest.mark.parametrize("count", [1, 3, 400])
def test_values_of_every_size_come_in_order(tmp_path, count):
    values = [(k.to_bytes(4, "big"), os.urandom((k * 977) % 9000)) for k in range(count)]
    path = lmdb_file(tmp_path / "a.mdb", sorted(values, key=lambda item: item[1]))
    found = LMDBFile(path)
    assert found.keys == [key for key, _ in values]
    assert [found.value(k) for k in range(count)] == [value for _, value in values]


def test_no_damage_ends_the_process(tmp_path):
    values = [(k.to_bytes(4, "big"), bytes(k * 300)) for k in range(60)]
    whole = lmdb_file(tmp_path / "a.mdb", values).read_bytes()
    path, random = tmp_path / "b.mdb", np.random.default_rng(0)
    refused = 0
    for k in range(300):
        content = bytearray(whole)
        if k % 3 == 0:
            content = content[: random.integers(len(whole))]
        else:
            for place in random.integers(0, len(whole), 40):
                content[place] = random.integers(256)
            page = 4096 * random.integers(2, len(whole) // 4096)
            content[page : page + 64] = random.bytes(64)
        path.write_bytes(content)
        try:
            found = LMDBFile(path)
            for index in range(len(found)):
                found.value(index)
        except WholeFileError as error:
            refused += "expected a whole LMDB file" in str(error)
    assert refused > 100


def test_what_is_no_file(tmp_path):
    with pytest.raises(WholeFileError, match="expected an LMDB file, there is no such file"):
        LMDBFile(tmp_path / "none.mdb")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(WholeFileError, match="got it ends too early; copy it again"):
        LMDBFile(tmp_path / "empty")
    (tmp_path / "text").write_bytes(b"text" * 2000)
    with pytest.raises(WholeFileError, match="got it does not begin as one"):
        LMDBFile(tmp_path / "text")


def test_a_folder_stands_for_its_file_and_nothing_for_no_keys(tmp_path):
    (tmp_path / "a").mkdir()
    lmdb_file(tmp_path / "a" / "data.mdb", [(b"k", b"value")])
    found = LMDBFile(tmp_path / "a")
    assert (len(found), found.keys, found.value(0)) == (1, [b"k"], b"value")
    lmdb_file(tmp_path / "b.mdb", [])
    assert len(LMDBFile(tmp_path / "b.mdb")) == 0


def test_a_file_that_is_cut_off(tmp_path):
    whole = lmdb_file(
        tmp_path / "a.mdb", [(bytes([k]), bytes(5000)) for k in range(9)]
    ).read_bytes()
    (tmp_path / "b.mdb").write_bytes(whole[:-4096])
    with pytest.raises(WholeFileError, match=r"got \d+ bytes are announced, \d+ are there"):
        LMDBFile(tmp_path / "b.mdb")


def test_keys_with_several_values_are_refused(tmp_path):
    path = tmp_path / "a.mdb"
    with lmdb.open(str(path), subdir=False, lock=False, max_dbs=2) as env:
        table = env.open_db(b"named", dupsort=True)
        with env.begin(write=True) as transaction:
            transaction.put(b"k", b"1", db=table)
    with pytest.raises(WholeFileError, match="got keys with several values or tables"):
        LMDBFile(path)


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a.mdb"
    writer = LMDBWriter(path)
    values = {bytes([k]): bytes(k * 700) for k in range(20)}
    for key, value in values.items():
        writer.put(key, value)
    writer.close()
    found = LMDBFile(path)
    assert dict(zip(found.keys, map(found.value, range(20)), strict=True)) == values


def test_what_the_library_refuses_is_an_error_of_the_system(tmp_path):
    writer = LMDBWriter(tmp_path / "a.mdb")
    with pytest.raises(OSError, match="MDB_BAD_VALSIZE"):
        writer.put(b"k" * 600, b"value")
    writer.close()


def test_writing_needs_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(
        InputError, match=r"LMDB files are written with lmdb, .* 'deeph-zero\[lmdb\]'"
    ):
        LMDBWriter(tmp_path / "a.mdb")
