"""DeepH's legacy folders: written, looked at by hand, and read."""

import json

import h5py
import numpy as np
import pytest
from pyscf import gto

from deeph_zero.data.formats.deeph_legacy import LegacySink, LegacySource
from deeph_zero.data.formats.protocol import read_record
from deeph_zero.errors import InputError

from .conftest import ATOMS, BASIS, LATTICE, assert_same, named, of_spinors, polarised, written

EV, BOHR = 27.2113845, 0.529177249


@pytest.mark.parametrize("kind", [None, polarised, of_spinors])
def test_a_crystal_there_and_back(tmp_path, crystal, kind):
    record = kind(crystal) if kind else crystal
    found = LegacySource(written(tmp_path / "a", LegacySink, record))
    assert len(found) == 1
    back = read_record(found, 0)
    assert_same(record, back)
    assert back.matrices.facts.get("fermi", 0.0) == pytest.approx(
        record.matrices.facts.get("fermi", 0.0), abs=1e-12
    )


def test_molecules_there_and_back(tmp_path, molecule):
    found = LegacySource(written(tmp_path / "a", LegacySink, molecule, molecule))
    assert len(found) == 2
    back = read_record(found, 1)
    assert back.structure.lattice is None
    assert_same(molecule, back)
    density = back.matrices.density.values
    np.testing.assert_allclose(density, 0.5 * back.matrices.overlap.values, atol=1e-14)


def test_the_old_layout_is_openmxs(tmp_path, crystal):
    folder = written(tmp_path / "a", LegacySink, crystal)
    names = {"s": [""], "p": ["x", "y", "z"], "d": ["z^2", "x2-y2", "xy", "xz", "yz"]}
    mol = gto.M(atom=[ATOMS[0], ATOMS[2]], basis=BASIS, unit="Bohr", verbose=0)
    rows = named([x for x in mol.ao_labels(fmt=None) if x[0] == 0], names)
    with h5py.File(folder / "overlaps.h5") as file:
        block = file["[0, 0, 0, 1, 3]"][()]
    matrix = mol.intor("int1e_ovlp")[:10, 10:]
    np.testing.assert_allclose(block, matrix[np.ix_(rows, rows)], atol=1e-12)
    lattice = np.loadtxt(folder / "lat.dat")
    np.testing.assert_allclose(lattice[:, 1], LATTICE[1] * BOHR, atol=1e-14)
    reciprocal = np.loadtxt(folder / "rlat.dat")
    np.testing.assert_allclose(lattice.T @ reciprocal, 2 * np.pi * np.eye(3), atol=1e-12)
    assert (folder / "element.dat").read_text().split() == ["6", "1", "6"]


# ---- damage -----------------------------------------------------------------------------------


def spoiled(folder, name, change):
    (folder / name).write_text(change((folder / name).read_text()))


DAMAGE = {
    "element": ("element.dat", lambda _: "6\nC\n6\n", "expected an atomic number from 1 to 118 pe"),
    "heavy": ("element.dat", lambda _: "6\n119\n6\n", "expected an atomic number from 1 to 118"),
    "no element": ("element.dat", lambda _: "\n", "element.dat: expected an atomic number"),
    "l": ("orbital_types.dat", lambda t: t.replace("2", "-1", 1), "orbital_types.dat line 1: expe"),
    "high l": ("orbital_types.dat", lambda t: t.replace("2", "13", 1), "expected the l of each sh"),
    "fewer": ("orbital_types.dat", lambda _: "0 0 1 2\n0 1\n", "blocks named .*, atoms 1 to 2"),
    "shells": ("orbital_types.dat", lambda t: t.replace("2", "1", 1), "elements in .*, as orbital"),
    "lines": ("lat.dat", lambda t: t + "1 2 3\n", "lat.dat: expected 3 lines, x, y and z of each"),
    "columns": ("site_positions.dat", lambda t: t.replace(" ", "", 1), "site_positions.dat line 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_texts_are_told_with_their_line(tmp_path, molecule, case):
    name, change, words = DAMAGE[case]
    folder = written(tmp_path / "a", LegacySink, molecule)
    spoiled(folder, name, change)
    with pytest.raises(InputError, match=words):
        read_record(LegacySource(folder), 0)


def test_damaged_blocks(tmp_path, molecule):
    folder = written(tmp_path / "a", LegacySink, molecule)
    with h5py.File(folder / "hamiltonians.h5", "a") as file:
        file["[0, 0, 0, 4, 1]"] = np.eye(3)
    with pytest.raises(InputError, match=r"blocks named \[R1, R2, R3, i, j\], atoms 1 to 3, got"):
        LegacySource(folder).matrices(0)
    with h5py.File(folder / "hamiltonians.h5", "w"):
        pass
    with pytest.raises(InputError, match="expected blocks, got an empty file"):
        LegacySource(folder).matrices(0)


@pytest.mark.parametrize("name", ["molecule", "crystal"])
def test_without_a_word_on_it_cells_tell_a_crystal(tmp_path, name, request):
    record = request.getfixturevalue(name)
    folder = written(tmp_path / "a", LegacySink, record)
    info = json.loads((folder / "info.json").read_text())
    del info["pbc"]
    (folder / "info.json").write_text(json.dumps(info))
    found = LegacySource(folder).structure(0)
    assert found.pbc.tolist() == [name == "crystal"] * 3
    assert (found.lattice is None) == (name == "molecule")


def test_orthonormal_functions_need_no_overlap(tmp_path, molecule):
    folder = written(tmp_path / "a", LegacySink, molecule)
    (folder / "overlaps.h5").unlink()
    with pytest.raises(InputError, match=r"overlaps\.h5"):
        LegacySource(folder).matrices(0)
    info = json.loads((folder / "info.json").read_text())
    (folder / "info.json").write_text(json.dumps(info | {"isorthogonal": True}))
    overlap = LegacySource(folder).matrices(0).overlap
    np.testing.assert_array_equal(overlap.to_dense(), np.eye(24))
