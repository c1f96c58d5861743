"""DeePTB's LMDB and dftio's folders: there and back, and Gaussians in either unit."""

import json
import pickle

import h5py
import numpy as np
import pytest

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.deeptb import (
    DeePTBSink,
    DeePTBSource,
    DftioSink,
    DftioSource,
    parse_basis,
)
from deeph_zero.data.formats.protocol import read_record
from deeph_zero.data.formats.registry import recognise
from deeph_zero.errors import InputError
from deeph_zero.units import BOHR_IN_ANGSTROM, HARTREE_IN_EV

from .conftest import assert_same, lmdb_file, polarised

lmdb = pytest.importorskip("lmdb", reason="the extra lmdb is not installed")


COMMON = ["--grid-level", "0", "--xc", "pbe", "--device", "cpu", "--threads", "1", "-q"]


BASIS = {"common_options": {"basis": {"C": "2s1p1d", "H": "1s1p"}}}


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
def test_a_gaussian_basis_is_understood_in_either_unit(tmp_path, water_scf, capsys, unit):
    """As DeePTB's users made it: i <= j only, p as y, z, x, positions in single precision."""
    mol, named = water_scf.mol, {}
    components = {"s": [""], "p": ["y", "z", "x"], "d": ["xy", "yz", "z^2", "xz", "x2-y2"]}
    labels = mol.ao_labels(fmt=None)
    order = sorted(range(24), key=lambda k: (labels[k][0], "spd".index(labels[k][2][-1]),
                   labels[k][2], components[labels[k][2][-1]].index(labels[k][3])))  # fmt: skip
    factor = HARTREE_IN_EV if unit == "eV" else 1.0
    starts = [0, 14, 19, 24]
    pairs = {"hamiltonian": water_scf.get_fock() * factor, "overlap": mol.intor("int1e_ovlp")}
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
    path = lmdb_file(tmp_path / "a.mdb", [(b"\0\0\0\0", pickle.dumps(value))])
    words = ["convert", str(path), str(tmp_path / "b.h5"), "--basis", "def2-svp", *COMMON]
    assert entry_point(words) == 0
    assert ("are in hartree, not in eV" in capsys.readouterr().err) == (unit == "hartree")
    (row,) = json.loads((tmp_path / "b.json").read_text())["structures"]
    assert row["source_ao_order"] == "m"
    assert row["deviation"] < 1e-5
    # without a basis nothing says which shells there are
    assert entry_point(["convert", str(path), str(tmp_path / "c.h5")]) == 2
    assert "expected the shells of O; put DeePTB's input" in capsys.readouterr().err


# ---- damage -----------------------------------------------------------------------------------


def test_shells_of_a_basis():
    words = {"C": "2s1p1d", "H": "1s", "Fe": "12s3f"}
    assert parse_basis(words) == {"C": (0, 0, 1, 2), "H": (0,), "Fe": (0,) * 12 + (3,) * 3}
    for symbol, word in (
        ("C", "2s2"), ("C", ""), ("C", "s"), ("C", "2S"), ("C", "1j"), ("Xx", "1s"), ("C", 3),
        (6, "1s"), ("C", "1s 1p"),
    ):  # fmt: skip
        with pytest.raises(InputError, match="basis: expected shells like '2s2p1d' of an element"):
            parse_basis({symbol: word})


def frame(molecule, **changes):
    """A frame of DeePTB's in the order and units of the file; None leaves a key out."""
    sizes = molecule.matrices.sizes
    blocks = {
        f"{i}_{j}_0_0_0": np.full((sizes[i], sizes[j]), 0.5 if i != j else 0.0)
        for i in range(3)
        for j in range(i, 3)
    }
    value = {
        "atomic_numbers": molecule.structure.numbers, "pos": molecule.structure.coords,
        "cell": np.zeros((3, 3)), "pbc": np.zeros(3, bool), "hamiltonian": blocks,
    } | changes  # fmt: skip
    return {key: item for key, item in value.items() if item is not None}


DAMAGE = {
    "numbers": ({"atomic_numbers": None}, "expected atomic_numbers and pos, got none"),
    "lists": ({"pos": [[0, 0, 0]]}, "expected atomic_numbers and pos, got none"),
    "fewer": ({"pos": np.zeros((2, 3))}, "expected atomic numbers and as many positions, got othe"),
    "ghost": ({"atomic_numbers": np.array([6, 0, 6])}, "expected atomic numbers and as many posit"),
    "nan": ({"pos": np.full((3, 3), np.nan)}, "expected finite positions and cell, got NaN"),
    "flat": ({"pbc": np.ones(3, bool)}, "expected a cell of three vectors, got another"),
    "no h": ({"hamiltonian": None}, "expected hamiltonian, blocks by name, got none"),
    "empty": ({"hamiltonian": {}}, "expected blocks of H, got none; check the file"),
    "name": ({"hamiltonian": {"0_0_0_0": np.eye(10)}}, "expected blocks of H named i_j_R1_R2_R3"),
    "atom": ({"hamiltonian": {"0_3_0_0_0": np.eye(10)}}, "atoms 0 to 2, got '0_3_0_0_0'"),
    "shape": ({"hamiltonian": {"0_0_0_0_0": np.eye(9)}}, r"expected 10 x 10 numbers in H 0_0_0_0_"),
    "kind": ({"hamiltonian": {"0_0_0_0_0": np.eye(10, dtype=int)}}, "expected 10 x 10 numbers in "),
    "twice": (
        {"hamiltonian": {"0_0_0_0_0": np.eye(10), "00_0_0_0_0": np.eye(10)}}, "^H: .*; check the",
    ),
    "overlap": ({"overlap": {"0_0_0_0_0": np.eye(9)}}, "expected 10 x 10 numbers in S"),
    "a list": ([1, 2], "expected atomic_numbers and pos, got none"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_frames_of_deeptb(tmp_path, molecule, case):
    changes, words = DAMAGE[case]
    value = frame(molecule, **changes) if isinstance(changes, dict) else changes
    path = lmdb_file(tmp_path / "a.mdb", [(b"\0\0\0\0", pickle.dumps(value))])
    (tmp_path / "input.json").write_text(json.dumps(BASIS))
    with pytest.raises(InputError, match=words):
        read_record(DeePTBSource(path, lambda *_: (), None), 0)


def test_one_of_each_pair_is_enough(tmp_path, molecule):
    path = lmdb_file(tmp_path / "a.mdb", [(b"\0\0\0\0", pickle.dumps(frame(molecule)))])
    (tmp_path / "a_list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "input.json").write_text(json.dumps(BASIS))
    found = DeePTBSource(path, lambda *_: (), None).matrices(0)
    assert found.shells == ((0, 0, 1, 2), (0, 1), (0, 0, 1, 2))
    dense = found.fock.to_dense().numpy()
    assert dense[0, 12] == dense[12, 0] == pytest.approx(0.5 / HARTREE_IN_EV)


FOLDER_DAMAGE = {
    "positions": ("positions.dat", "1 2\n", "positions.dat line 1: expected 3 numbers"),
    "rows": ("positions.dat", "1 2 3\n", "positions.dat: expected rows of 3 atoms, got 1"),
    "none": ("atomic_numbers.dat", "# none\n", "positions.dat: expected rows of 0 atoms"),
    "basis": ("basis.dat", "{'C': '2s1p1d'}", "basis.dat: expected shells of C, H"),
    "a list": (
        "basis.dat",
        "[1]",
        "basis.dat: expected {element: '2s2p1d', ...}, got another text",
    ),
    "deep": ("basis.dat", "(" * 5000, "basis.dat: expected {element"),
    "text": ("hamiltonians.h5", "text", "hamiltonians.h5: cannot be read"),
}


@pytest.mark.parametrize("case", FOLDER_DAMAGE)
def test_damaged_folders_of_dftio(tmp_path, molecule, case):
    name, text, words = FOLDER_DAMAGE[case]
    (tmp_path / "a").mkdir()
    DftioSink(tmp_path / "a", 1).write(molecule)
    (tmp_path / "a" / name).write_text(text)
    source = DftioSource(tmp_path / "a")
    assert len(source) == 1
    with pytest.raises(InputError, match=words):
        read_record(source, 0)


def test_a_group_of_another_name(tmp_path, molecule):
    (tmp_path / "a").mkdir()
    DftioSink(tmp_path / "a", 1).write(molecule)
    with h5py.File(tmp_path / "a" / "overlaps.h5", "a") as file:
        (name,) = file
        file.move(name, "another")
    with pytest.raises(InputError, match=rf"overlaps\.h5: expected a group '{name}', got none"):
        DftioSource(tmp_path / "a").matrices(0)


def test_several_frames_of_a_folder(tmp_path, molecule):
    (tmp_path / "a").mkdir()
    DftioSink(tmp_path / "a", 1).write(molecule)
    for name in ("hamiltonians.h5", "overlaps.h5", "density_matrices.h5"):
        with h5py.File(tmp_path / "a" / name, "a") as file:
            file.copy("0", "10")
            file.copy("0", "2")
    positions = tmp_path / "a" / "positions.dat"
    positions.write_text(positions.read_text() + "9 9 9\n" * 3 + "8 8 8\n" * 3)
    source = DftioSource(tmp_path / "a")
    assert [source.place(k) for k in range(3)] == [
        f"{tmp_path / 'a'} frame {n}" for n in (0, 2, 10)
    ]
    lengths = [source.structure(k).coords[0, 0] * BOHR_IN_ANGSTROM for k in (1, 2)]
    assert lengths == pytest.approx([9, 8])
