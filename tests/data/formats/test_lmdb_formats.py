"""LMDB files and pickles: SPHNet, DeePTB and dftio, and what a stranger could put into them."""

import json
import os
import pickle
import struct

import numpy as np
import pytest
from pyscf import dft, gto

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.deeptb import DeePTBSink, DeePTBSource, DftioSink, DftioSource
from deeph_zero.data.formats.lmdb_file import LMDBFile
from deeph_zero.data.formats.pickles import unpickled
from deeph_zero.data.formats.protocol import read_record
from deeph_zero.data.formats.registry import recognise
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError
from deeph_zero.testing import WATER
from deeph_zero.units import HARTREE_IN_EV

from .conftest import assert_same, polarised

lmdb = pytest.importorskip("lmdb", reason="the extra lmdb is not installed")

COMMON = ["--grid-level", "0", "--device", "cpu", "--threads", "1", "-q"]
BASIS = {"common_options": {"basis": {"C": "2s1p1d", "H": "1s1p"}}}


def made(path, values):
    with lmdb.open(str(path), subdir=False, lock=False, map_size=2**26) as env:
        for key, value in values:
            with env.begin(write=True) as transaction:
                transaction.put(key, value)
    return path


# ---- the file ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 400])
def test_values_of_every_size_come_in_order(tmp_path, count):
    values = [(k.to_bytes(4, "big"), os.urandom((k * 977) % 9000)) for k in range(count)]
    path = made(tmp_path / "a.mdb", sorted(values, key=lambda item: item[1]))
    found = LMDBFile(path)
    assert found.keys == [key for key, _ in values]
    assert [found.value(k) for k in range(count)] == [value for _, value in values]


def test_no_damage_ends_the_process(tmp_path):
    values = [(k.to_bytes(4, "big"), bytes(k * 300)) for k in range(60)]
    whole = made(tmp_path / "a.mdb", values).read_bytes()
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


# ---- pickles ----------------------------------------------------------------------------------

PLAIN = {
    "a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], dtype=np.int32), "c": [1, "x", None],
    "d": {"e": b"raw", "f": 2.5}, "g": np.float64(0.5), "h": np.array([True, False]),
    "i": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "j": np.array(3 + 4j),
}  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_and_plain_values_are_read(protocol):
    found = unpickled(pickle.dumps(PLAIN, protocol=protocol))
    assert found.keys() == PLAIN.keys()
    for key in "abghij":
        np.testing.assert_array_equal(found[key], PLAIN[key])
        assert np.asarray(found[key]).dtype == np.asarray(PLAIN[key]).dtype
    assert found["c"] == [1, "x", None]
    assert found["d"] == PLAIN["d"]


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize(
    "value",
    [
        Evil(os.system, "touch pwned"),
        Evil(eval, "open('pwned', 'w')"),
        {"a": [np.zeros(2), Evil(np.load, "x")]},
        Evil(np.memmap, "pwned", "w+"),
        np.array([Evil(os.system, "touch pwned")], dtype=object),
        np.array(["text"]),
        np.zeros(2, dtype=[("a", "f8")]),
    ],
)
def test_no_code_is_run(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"only numbers|a whole pickle"):
        unpickled(pickle.dumps(value))
    assert list(tmp_path.iterdir()) == []


def test_damaged_pickles_are_refused():
    whole, lines = pickle.dumps({"a": np.arange(100.0), "b": "x"}), []
    random = np.random.default_rng(1)
    for k in range(300):
        content = bytearray(whole)
        for place in random.integers(0, len(whole), 1 + k % 4):
            content[place] = random.integers(256)
        try:
            unpickled(bytes(content) if k % 2 else bytes(content[: random.integers(len(whole))]))
        except InputError as error:
            lines.append(str(error).count("\n"))
    assert len(lines) > 150
    assert set(lines) == {0}


# ---- SPHNet -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def water():
    mf = dft.RKS(gto.M(atom=WATER, basis="def2-svp", verbose=0), xc="b3lyp5")
    mf.grids.level = 0
    mf.conv_tol, mf.conv_tol_grad = 1e-11, 1e-6
    mf.kernel()
    return mf


def sphnet(mf, **changes):
    return {
        "id": 7,
        "num_nodes": 3,
        "atoms": mf.mol.atom_charges().astype("<i4").tobytes(),
        "pos": mf.mol.atom_coords(unit="Angstrom").tobytes(),
        "Ham": mf.get_fock().tobytes(),
    } | changes


def test_labels_of_sphnet_are_pyscfs_and_go_back(tmp_path, water):
    rows = [(b"\0\0\0\0", pickle.dumps(sphnet(water))), (b"length", pickle.dumps(1))]
    path = made(tmp_path / "a.lmdb", rows)
    assert recognise(path) == "sphnet"
    labels, copy = tmp_path / "b.h5", tmp_path / "copy.lmdb"
    assert entry_point(["convert", str(path), str(labels), *COMMON]) == 0
    (row,) = json.loads((tmp_path / "b.json").read_text())["structures"]
    assert (row["source_id"], row["source_ao_order"]) == ("7", "pyscf")
    assert entry_point(["convert", str(labels), str(copy), "-q"]) == 0
    with lmdb.open(str(copy), subdir=False, lock=False, readonly=True) as env, env.begin() as t:
        found = pickle.loads(t.get(b"\0\0\0\0"))
        assert pickle.loads(t.get(b"length")) == 1
    np.testing.assert_array_equal(np.frombuffer(found["Ham"]), water.get_fock().ravel())
    assert found["atoms"] == sphnet(water)["atoms"]


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
def test_a_bad_value_is_one_line(tmp_path, water, capsys, value, message):
    content = value(water) if callable(value) else value
    path = made(tmp_path / "a.lmdb", [(b"\0\0\0\0", pickle.dumps(content))])
    words = ["convert", str(path), str(tmp_path / "b.h5"), *COMMON]
    assert entry_point(words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert "a.lmdb" in line
    assert [p.name for p in tmp_path.iterdir()] == ["a.lmdb"]


# ---- DeePTB and dftio -------------------------------------------------------------------------


def test_deeptb_there_and_back(tmp_path, crystal, molecule):
    sink = DeePTBSink(tmp_path / "a.mdb")
    for record in (crystal, molecule):
        sink.write(record)
    sink.close()
    (tmp_path / "input.json").write_text(json.dumps(BASIS))
    assert recognise(tmp_path / "a.mdb") == "deeptb"
    source = DeePTBSource(tmp_path / "a.mdb", lambda *_: (), None)
    assert len(source) == 2
    for k, record in enumerate((crystal, molecule)):
        assert_same(record, read_record(source, k))
    with pytest.raises(InputError, match="two spins"):
        sink.write(polarised(crystal))


def test_dftio_there_and_back(tmp_path, crystal, molecule):
    (tmp_path / "a").mkdir()
    sink = DftioSink(tmp_path / "a", 2)
    for record in (crystal, molecule):
        sink.write(record)
    assert recognise(tmp_path / "a") == "dftio"
    source = DftioSource(tmp_path / "a")
    for k, record in enumerate((crystal, molecule)):
        assert_same(record, read_record(source, k))
    assert (tmp_path / "a" / "0000" / "basis.dat").read_text() == "{'C': '2s1p1d', 'H': '1s1p'}\n"
    (tmp_path / "a" / "0001" / "basis.dat").write_text("__import__('os').system('true')")
    with pytest.raises(InputError, match=r"basis\.dat: expected"):
        source.matrices(1)


@pytest.mark.parametrize("unit", ["eV", "hartree"])
def test_a_gaussian_basis_is_understood_in_either_unit(tmp_path, water, capsys, unit):
    """As DeePTB's users made it: i <= j only, p as y, z, x, positions in single precision."""
    mol, named = water.mol, {}
    components = {"s": [""], "p": ["y", "z", "x"], "d": ["xy", "yz", "z^2", "xz", "x2-y2"]}
    labels = mol.ao_labels(fmt=None)
    order = sorted(range(24), key=lambda k: (labels[k][0], "spd".index(labels[k][2][-1]),
                   labels[k][2], components[labels[k][2][-1]].index(labels[k][3])))  # fmt: skip
    factor = HARTREE_IN_EV if unit == "eV" else 1.0
    starts = [0, 14, 19, 24]
    pairs = {"hamiltonian": water.get_fock() * factor, "overlap": mol.intor("int1e_ovlp")}
    for what, matrix in pairs.items():
        full = matrix[np.ix_(order, order)]
        named[what] = {
            f"{i}_{j}_0_0_0": full[starts[i] : starts[i + 1], starts[j] : starts[j + 1]]
            for i in range(3)
            for j in range(i, 3)
        }
    value = {
        "atomic_numbers": mol.atom_charges(),
        "pos": mol.atom_coords(unit="Angstrom").astype(np.float32),
        "cell": np.zeros((3, 3), np.float32),
        "pbc": np.zeros(3, bool),
        **named,
    }
    path = made(tmp_path / "a.mdb", [(b"\0\0\0\0", pickle.dumps(value))])
    words = ["convert", str(path), str(tmp_path / "b.h5"), "--basis", "def2-svp", *COMMON]
    assert entry_point(words) == 0
    assert ("are in hartree, not in eV" in capsys.readouterr().err) == (unit == "hartree")
    (row,) = json.loads((tmp_path / "b.json").read_text())["structures"]
    assert row["source_ao_order"] == "m"
    assert row["deviation"] < 1e-5
    # without a basis nothing says which shells there are
    assert entry_point(["convert", str(path), str(tmp_path / "c.h5")]) == 2
    assert "expected the shells of O; put DeePTB's input" in capsys.readouterr().err
