"""LMDB files page by page: values of every size, and damage that ends no process."""

import os

import numpy as np
import pytest

from deeph_zero.data.formats.lmdb_file import LMDBFile
from deeph_zero.data.reading.content import WholeFileError

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
