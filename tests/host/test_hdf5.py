"""HDF5 and SQLite files of strangers: nothing outside the file is read."""

import os
import sqlite3

import ase
import ase.db
import h5py
import numpy as np
import pytest

from deeph_zero.data.labels import LabelStore
from deeph_zero.data.qh9 import Matrices, is_qh9
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.data.reading.sqlite import tables_of
from deeph_zero.data.structures import read_structures
from deeph_zero.errors import InputError
from deeph_zero.host.hdf5 import open_hdf5


def external_storage(file, path):
    path.with_name("secret").write_bytes(bytes(range(64)))
    file.create_dataset("g/fock", (2, 2), "f8", external=[("secret", 0, 32)])


def virtual(file, path):
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["x"] = np.eye(2)
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[:] = h5py.VirtualSource(str(path.with_name("other.h5")), "x", (2, 2))
    file.create_group("g").create_virtual_dataset("fock", layout)


def external_link(file, path):
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["x"] = np.eye(2)
    file.create_group("g")["fock"] = h5py.ExternalLink("other.h5", "/x")


def soft_link(file, _path):
    file["g/real"] = np.eye(2)
    file["g/fock"] = h5py.SoftLink("/g/real")


def loop(file, _path):
    file.create_group("g")["fock"] = h5py.SoftLink("/g/fock")


def announced(file, _path):
    file.create_dataset("g/fock", (10**6, 10**6), "f8", chunks=(1000, 1000))


def linked_group(file, path):
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["g/fock"] = np.eye(2)
    file["g"] = h5py.ExternalLink("other.h5", "/g")


CASES = {
    "external storage": external_storage,
    "a virtual dataset": virtual,
    "a link, which": external_link,
    "a link": soft_link,
    "a link, which is not": loop,
    "got a link": linked_group,
    "bytes that are not there": announced,
}


@pytest.mark.parametrize("words", CASES)
def test_what_leaves_the_file_is_refused(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        CASES[words](file, path)
    ways = (
        lambda group: group["g"]["fock"],
        lambda group: group.get("g").get("fock"),
        lambda group: [inner.values() for inner in group.values()],
        lambda group: [dict(inner.items()) for _, inner in group.items()],
    )
    for way in ways:
        with open_hdf5(path) as handle, pytest.raises(InputError, match=words) as info:
            way(handle)
    assert str(info.value).startswith(f"{path}: expected ")
    assert len(str(info.value).splitlines()) == 1


def test_plain_files_are_read_as_h5py_reads_them(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["0000/fock"] = np.arange(6.0).reshape(2, 3)
        file["0000"].create_dataset("packed", data=np.zeros((500, 500)), compression="gzip")
        file["0000"].attrs["xc"] = "pbe"
        file["0001"] = file["0000"]  # the same group under another name lies in the file too
    with open_hdf5(path) as handle:
        assert list(handle) == ["0000", "0001"]
        group = handle["0000"]
        assert isinstance(group, h5py.Group)
        np.testing.assert_array_equal(group["fock"], np.arange(6.0).reshape(2, 3))
        assert group["packed"][()].sum() == 0
        assert group.get("fock").shape == (2, 3)
        assert dict(group.attrs) == {"xc": "pbe"}
        assert handle["0001"]["fock"].shape == (2, 3)
        assert ("none" in group, "fock" in group, "/" in group) == (False, True, False)
        for name in ("none", "../0001", "/0000/fock"):
            with pytest.raises(KeyError):
                group[name]


def test_labels_that_leave_the_file_are_refused(tmp_path):
    path = tmp_path / "l.h5"
    (tmp_path / "secret").write_bytes(b"x" * 64)
    with h5py.File(path, "w") as file:
        group = file.create_group("0000")
        group["numbers"] = [1]
        group.create_dataset("positions", (1, 3), "f8", external=[("secret", 0, 24)])
        for name in ("fock", "density", "mo_energy", "mo_occ"):
            group[name] = np.eye(1)
        group.attrs.update(energy=-0.5, charge=0, spin=1, xc="pbe", basis="sto-3g")
    with pytest.raises(InputError, match="got external storage"):
        LabelStore([path])


ENDLESS = (
    "CREATE VIEW data AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
    "SELECT n AS N, x'01' AS Z, x'01' AS pos, x'01' AS Ham FROM r"
)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (ENDLESS, "got the view 'data'"),
        ("CREATE VIRTUAL TABLE data USING rtree(id, a, b)", "got the virtual table 'data'"),
        (
            "CREATE TABLE data (N, Z, pos, Ham AS (zeroblob(999999999)))",
            "the generated column 'Ham'",
        ),
        (
            "CREATE TABLE data (N); CREATE TRIGGER t AFTER INSERT ON data BEGIN SELECT 1; END",
            "got the trigger 't'",
        ),
    ],
)
def test_databases_hold_plain_tables_only(tmp_path, sql, words):
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(sql)
    connection.close()
    with pytest.raises(WholeFileError, match=words):
        tables_of(path)
    molecules, bad = read_structures([path])
    assert not molecules
    assert words in str(bad[0])
    with pytest.raises(WholeFileError, match=words):
        Matrices(path)


def test_plain_databases_are_read_and_left_as_they_are(tmp_path):
    path = tmp_path / "a.db"
    with ase.db.connect(path) as database:
        database.write(ase.Atoms("HF", [[0, 0, 0], [0, 0.1, 0.9]]))
    before = path.read_bytes()
    assert "systems" in tables_of(path)
    assert len(read_structures([path])[0]) == 1
    assert not is_qh9(path)
    assert path.read_bytes() == before
    os.mkfifo(tmp_path / "p.db")
    with pytest.raises(InputError, match="named pipe"):
        tables_of(tmp_path / "p.db")
