"""HDF5 and SQLite files of strangers: nothing outside the file is read; ours are whole or none."""

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

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
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host import hdf5
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


def test_damage_anywhere_is_one_line(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["g/fock"] = np.eye(2)
        file["g/numbers"] = np.arange(2)
    whole, lines = path.read_bytes(), set()
    for place in range(0, len(whole), 9):
        path.write_bytes(whole[:place] + b"\xff" * 8 + whole[place + 8 :])
        try:
            with open_hdf5(path) as handle:
                for group in handle.values():
                    [group[name] for name in group]
        except (InputError, OSError) as error:
            lines.add(type(error).__name__ + str(error).partition(" (")[0])
    assert any("it is damaged" in line for line in lines)
    assert not any("\n" in line for line in lines)


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


ARRAYS = {
    "numbers": np.array([1, 1]),
    "positions": np.arange(6.0).reshape(2, 3),
    "overlap": np.eye(4),
    "fock": np.full((2, 4, 4), 0.25),
    "fock_rebuilt": None,
}


FULL = r"No space left on device.*free some space"


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def raiser(error: BaseException):
    def fail(*_args, **_kwargs):
        raise error

    return fail


ATTRIBUTES = {"energy": -1.5, "charge": 0, "spin": 2, "xc": "pbe", "basis": "def2-svp"}


def test_groups_datasets_and_attributes(tmp_path):
    out = tmp_path / "out.h5"
    with hdf5.PredictionWriter(out) as writer:
        assert not out.exists()
        assert [writer.write(ARRAYS, ATTRIBUTES), writer.write(ARRAYS, {"energy": None})] == [
            "0000", "0001",
        ]  # fmt: skip
    with h5py.File(out) as h5:
        assert list(h5) == ["0000", "0001"]
        assert set(h5["0000"]) == set(ARRAYS) - {"fock_rebuilt"}
        np.testing.assert_array_equal(h5["0000/fock"][:], ARRAYS["fock"])
        assert dict(h5["0000"].attrs) == ATTRIBUTES | {"ao_order": "pyscf"}
        assert dict(h5["0001"].attrs) == {"ao_order": "pyscf"}
    assert names(tmp_path) == ["out.h5"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failing_block_leaves_the_old_file(tmp_path, error):
    out = tmp_path / "out.h5"
    out.write_bytes(b"old")
    with pytest.raises(error), hdf5.PredictionWriter(out) as writer:  # noqa: PT012  (the block itself must fail)
        assert writer.write(ARRAYS, ATTRIBUTES) == "0000"
        raise error
    assert names(tmp_path) == ["out.h5"]
    assert out.read_bytes() == b"old"


def test_unknown_dataset_is_refused(tmp_path):
    writer = hdf5.PredictionWriter(tmp_path / "o.h5")
    with writer, pytest.raises(ValueError, match="'fok'"):
        writer.write({"fok": np.eye(2)}, {})
    with pytest.raises(ValueError, match="with block"):
        writer.write(ARRAYS, {})


def test_writer_in_a_missing_folder(tmp_path):
    with pytest.raises(ComputationError, match=r"cannot write .*o\.h5 \(No such file"):
        hdf5.PredictionWriter(tmp_path / "no" / "o.h5").__enter__()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Can't decrement id ref count (file write failed: errno = 28, error message)"),
    ],
)
def test_hdf5_on_a_full_disk_is_one_sentence(tmp_path, monkeypatch, error):
    out = tmp_path / "out.h5"

    monkeypatch.setattr(h5py.Group, "create_dataset", raiser(error))
    with (
        pytest.raises(ComputationError, match=FULL) as info,
        hdf5.PredictionWriter(out) as writer,
    ):
        writer.write(ARRAYS, ATTRIBUTES)
    assert len(str(info.value).splitlines()) == 1
    assert names(tmp_path) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from deeph_zero.errors import ComputationError
from deeph_zero.host.hdf5 import PredictionWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
eye = np.random.default_rng(0).normal(size=(12, 12))
arrays = dict.fromkeys(("overlap", "fock", "density"), eye) | {"numbers": np.ones(3, int)}
for size in range(0, 60_000, 700):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        with PredictionWriter(Path(sys.argv[1]) / "o.h5") as writer:
            for _ in range(20):
                writer.write(arrays, {"xc": "pbe", "energy": -1.0})
    except ComputationError as error:
        assert "free some space" in str(error), error
        continue
    print("written with", size)
    break
"""


def test_no_size_of_a_full_disk_crashes_hdf5(tmp_path):
    """HDF5 itself may end in a segmentation fault when it closes a file it could not write."""
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "written with" not in ended.stdout
    assert names(tmp_path) == []
