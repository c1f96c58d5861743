"""SPHNet's LMDB: labels are PySCF's numbers and go back, and bad values."""

import json
import os
import pickle
import struct

import numpy as np
import pytest

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.registry import recognise

from .conftest import Evil, lmdb_file

lmdb = pytest.importorskip("lmdb", reason="the extra lmdb is not installed")


COMMON = ["--grid-level", "0", "--xc", "pbe", "--device", "cpu", "--threads", "1", "-q"]


def sphnet(mf, **changes):
    return {
        "id": 7,
        "num_nodes": 3,
        "atoms": mf.mol.atom_charges().astype("<i4").tobytes(),
        "pos": mf.mol.atom_coords(unit="Angstrom").tobytes(),
        "Ham": mf.get_fock().tobytes(),
    } | changes


def test_labels_of_sphnet_are_pyscfs_and_go_back(tmp_path, water_scf):
    rows = [(b"\0\0\0\0", pickle.dumps(sphnet(water_scf))), (b"length", pickle.dumps(1))]
    path = lmdb_file(tmp_path / "a.lmdb", rows)
    assert recognise(path) == "sphnet"
    labels, copy = tmp_path / "b.h5", tmp_path / "copy.lmdb"
    assert entry_point(["convert", str(path), str(labels), *COMMON]) == 0
    (row,) = json.loads((tmp_path / "b.json").read_text())["structures"]
    assert (row["source_id"], row["source_ao_order"]) == ("7", "pyscf")
    assert entry_point(["convert", str(labels), str(copy), "-q"]) == 0
    with lmdb.open(str(copy), subdir=False, lock=False, readonly=True) as env, env.begin() as t:
        found = pickle.loads(t.get(b"\0\0\0\0"))
        assert pickle.loads(t.get(b"length")) == 1
    np.testing.assert_array_equal(np.frombuffer(found["Ham"]), water_scf.get_fock().ravel())
    assert found["atoms"] == sphnet(water_scf)["atoms"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Evil(os.mkdir, "pwned"), "expected data, got code"),
        ({"atoms": b"12"}, "expected atoms, atomic numbers"),
        ({"atoms": struct.pack("<i", 200)}, "expected atomic numbers from 1 to 118"),
        (lambda mf: sphnet(mf, Ham=b"1234"), "expected Ham of shape (24, 24)"),
        (lambda mf: sphnet(mf, pos=b""), "expected pos of shape (3, 3)"),
        ([1, 2], "expected atoms, atomic numbers"),
    ],
)
def test_a_bad_value_is_one_line(tmp_path, water_scf, capsys, value, message):
    content = value(water_scf) if callable(value) else value
    path = lmdb_file(tmp_path / "a.lmdb", [(b"\0\0\0\0", pickle.dumps(content))])
    words = ["convert", str(path), str(tmp_path / "b.h5"), *COMMON]
    assert entry_point(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert "a.lmdb" in line
    assert [p.name for p in tmp_path.iterdir()] == ["a.lmdb"]
