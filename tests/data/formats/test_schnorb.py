"""SchNOrb's ASE databases: made as its own code makes them, read and written."""

import base64
import json

import ase.db
import h5py
import numpy as np
import pytest

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.registry import recognise
from deeph_zero.data.formats.schnorb import SchNOrbSource
from deeph_zero.jobs.convert import atomic_shells

from .conftest import in_order

BOHR = 0.52917721092


COMMON = ["--grid-level", "0", "--xc", "pbe", "--device", "cpu", "--threads", "1", "-q"]


def schnorb(path, mf, kind="float32"):
    data = {}
    for name, matrix in (("hamiltonian", mf.get_fock()), ("overlap", mf.get_ovlp())):
        array = in_order(mf.mol, matrix).astype(kind)
        data[name] = base64.b64encode(array.tobytes()).decode()
        data |= {f"_shape_{name}": list(array.shape), f"_dtype_{name}": kind}
    table = np.zeros((9, 14, 5), dtype=int)
    for z, ls in {1: (0, 0, 1), 8: (0, 0, 0, 1, 1, 2)}.items():
        rows = [(0, 1, l, 0) for l in ls for _ in range(2 * l + 1)]
        table[z, : len(rows), 1:] = rows
    with ase.db.connect(path) as db:
        db.metadata = {"basisdef": table.tolist()}
        db.write(ase.Atoms("OH2", mf.mol.atom_coords() * BOHR), data=data)
    return path


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_labels_are_pyscfs_numbers(tmp_path, water_scf, kind):
    path = schnorb(tmp_path / "a.db", water_scf, kind)
    assert recognise(path) == "schnorb"
    assert entry_point(["convert", str(path), str(tmp_path / "b.h5"), *COMMON]) == 0
    (row,) = json.loads((tmp_path / "b.json").read_text())["structures"]
    assert row["source_ao_order"] in ("psi4", "orca")
    with h5py.File(tmp_path / "b.h5") as file:
        group = file["0000"]
        np.testing.assert_allclose(group["fock"], water_scf.get_fock(), atol=2e-6)
        np.testing.assert_allclose(group["density"], water_scf.make_rdm1(), atol=2e-5)
        assert group.attrs["energy"] == pytest.approx(water_scf.e_tot, abs=1e-7)


def test_there_and_back(tmp_path, water_scf):
    path = schnorb(tmp_path / "a.db", water_scf)
    folder, copy = tmp_path / "folder", tmp_path / "copy.db"
    assert entry_point(["convert", str(path), str(folder), "-q"]) == 0
    assert entry_point(["convert", str(folder), str(copy), "--to", "schnorb", "-q"]) == 0
    one, two = (SchNOrbSource(p, atomic_shells, "def2-svp") for p in (path, copy))
    assert len(two) == 1
    np.testing.assert_allclose(one.structure(0).coords, two.structure(0).coords, atol=1e-6)
    for part in ("fock", "overlap"):
        a, b = (getattr(s.matrices(0), part).to_dense().numpy() for s in (one, two))
        np.testing.assert_allclose(a, b, atol=2e-6)
    row = ase.db.connect(copy).get(id=1)
    assert row.data["_shape_hamiltonian"] == [24, 24]
    table = np.array(ase.db.connect(copy).metadata["basisdef"])
    assert table[8, 9:14, 2:].tolist() == [[3, 2, m] for m in (0, 1, -1, 2, -2)]


@pytest.mark.parametrize("text", ["{}", "not base64!"])
def test_a_damaged_row_of_ase(tmp_path, water_scf, capsys, text):
    path = tmp_path / "a.db"
    schnorb(path, water_scf)
    with ase.db.connect(path) as db:
        db.update(1, data={"hamiltonian": text})
    assert entry_point(["convert", str(path), str(tmp_path / "b.h5"), *COMMON]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "a.db frame 0: expected hamiltonian in base64" in line
