"""npz arrays, our HDF5 files, SMILES and ASE's own formats as structures."""

import importlib.util
import io
import sys
import zipfile

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.db import connect

from deeph_zero.data import sources
from deeph_zero.data.structures import read_structures
from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.units import BOHR_IN_ANGSTROM

Z = np.array([8, 1, 1])
XYZ = np.array([[0, 0, 0.1], [0, 0.76, 0.58], [0.05, -0.74, 0.61]])
TWO = np.stack([XYZ, XYZ * 1.01])
HAS_RDKIT = importlib.util.find_spec("rdkit") is not None


def save(tmp_path, **arrays):
    path = tmp_path / "frames.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    "arrays",
    [
        {"nuclear_charges": Z.astype(np.uint8), "coords": TWO, "energies": np.zeros(2)},
        {"z": Z, "R": TWO, "E": np.zeros((2, 1))},
        {"numbers": np.stack([Z, Z]), "positions": TWO.astype(np.float32)},
        {
            "charges": np.pad(np.stack([Z, Z]), [(0, 0), (0, 4)]),
            "positions": np.pad(TWO, [(0, 0), (0, 4), (0, 0)]),
        },
        {"Z": np.concatenate([Z, Z]), "R": TWO.reshape(-1, 3), "N": np.array([3, 3])},
    ],
    ids=["rMD17", "MD17", "per frame", "QM9 padded", "QM9 flat"],
)
def test_npz_of_each_kind(tmp_path, arrays):
    molecules, bad = read_structures([save(tmp_path, **arrays)])
    assert bad == []
    assert [m.frame for m in molecules] == [0, 1]
    for molecule, xyz in zip(molecules, TWO, strict=True):
        assert molecule.numbers.tolist() == [8, 1, 1]
        np.testing.assert_allclose(molecule.coords, xyz / BOHR_IN_ANGSTROM, rtol=2e-7)


def test_one_frame_and_molecules_of_different_size(tmp_path):
    (one,), _ = read_structures([save(tmp_path, z=Z, R=XYZ)])
    np.testing.assert_allclose(one.coords, XYZ / BOHR_IN_ANGSTROM)
    flat = {"Z": [8, 1, 1, 2], "R": np.vstack([XYZ, np.zeros((1, 3))]), "N": [3, 1]}
    molecules, bad = read_structures([save(tmp_path, **flat)])
    assert bad == []
    assert [m.numbers.tolist() for m in molecules] == [[8, 1, 1], [2]]


def test_charge_and_spin_of_npz(tmp_path):
    molecules, bad = read_structures([save(tmp_path, z=Z, R=TWO, charge=[0, 1], spin=[0, 1.0])])
    assert bad == []
    assert [(m.charge, m.spin) for m in molecules] == [(0, 0), (1, 1)]
    molecules, _ = read_structures([save(tmp_path, z=Z, R=TWO, charge=-1)], spin=1)
    assert [(m.charge, m.spin) for m in molecules] == [(-1, 1), (-1, 1)]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"R": TWO}, "expected atomic numbers under one of the keys nuclear_charges, z"),
        ({"z": Z}, "expected positions in angstrom under one of the keys coords, R"),
        ({"z": Z[:2], "R": TWO}, "got (2,)"),
        ({"z": Z, "R": TWO[..., :2]}, "got (2, 3, 2)"),
        ({"z": Z + 0.5, "R": TWO}, "whole atomic numbers"),
        ({"z": np.array(["O", "H", "H"]), "R": TWO}, "whole atomic numbers"),
        ({"z": np.array([1, None], dtype=object), "R": TWO}, "cannot read it"),
        ({"z": Z, "R": TWO, "charge": [0, 0, 0]}, "expected one charge or 2 of them, got 3"),
        ({"z": Z, "R": TWO.reshape(-1, 3), "N": [3, 4]}, "expected N to add up to the 6"),
        ({"z": Z, "R": np.where(TWO > 0.7, np.nan, TWO)}, "finite coordinates"),
        ({"z": Z, "R": TWO, "spin": 0.5}, "spin= with a whole number"),
        ({"z": Z, "R": TWO * (1 + 1j)}, "real numbers"),
        ({"z": Z * (1 + 0j), "R": TWO}, "real numbers"),
        ({"z": Z * 1e300, "R": TWO}, "whole atomic numbers from 0 to 118"),
        ({"z": Z, "R": TWO * 1e200}, "coordinates up to 1e+06"),
        ({"z": Z, "R": TWO[:0]}, "0 frames"),
        ({"z": Z, "R": TWO, "charge": 1, "total_charge": 2}, "expected one charge"),
        ({"z": Z, "R": TWO, "cell": np.eye(4)}, "cell of shape [3, 3] or [2, 3, 3], got (4, 4)"),
        ({"z": Z, "R": TWO, "cell": np.eye(3) * 1j}, "real numbers"),
        ({"z": Z, "R": TWO, "cell": np.eye(3) * 9, "pbc": [1, 2, 3]}, "pbc of three truth values"),
        ({"z": Z, "R": TWO, "cell": np.eye(3) * 9, "pbc": [True, False]}, "three truth values"),
        ({"z": Z, "R": TWO, "cell": np.eye(3) * np.nan}, "finite lattice vectors"),
    ],
)
def test_wrong_arrays_are_one_line(tmp_path, arrays, words):
    molecules, bad = read_structures([save(tmp_path, **arrays)], crystals=True)
    assert molecules == []
    assert words in str(bad[0])
    assert len(str(bad[0]).splitlines()) == 1


def test_charge_and_spin_of_npz_under_other_names(tmp_path):
    path = save(tmp_path, z=Z, R=TWO, total_charge=[1, -1], multiplicity=2)
    molecules, bad = read_structures([path])
    assert bad == []
    assert [(m.charge, m.spin) for m in molecules] == [(1, 1), (-1, 1)]


@pytest.mark.parametrize(
    ("arrays", "states", "words"),
    [
        ({"Q": [[-1], [1]]}, [(-1, 1), (1, 1)], "is read as the charge"),
        ({"S": [0, 2]}, [(0, 1), (0, 1)], "S=2 is not used"),
        ({"charges": [[0.6, 0.4]] * 2}, [(0, 1)] * 2, "charges add up to 1 but are results"),
        ({"partial_charges": [0.6, 0.4, 0.6, 0.4]}, [(0, 1)] * 2, "add up to 1 but are results"),
    ],
)
def test_charges_of_npz_in_one_letter_or_by_atoms(tmp_path, caplog, arrays, states, words):
    positions = np.array([[[0, 0, 0], [0, 0.2, 0.95]], [[0, 0, 0], [0, 0.1, 0.98]]])
    path = tmp_path / "frames.npz"
    values = {key: np.array(value) for key, value in arrays.items()}
    np.savez(path, z=[8, 1], R=positions, **values)
    with caplog.at_level("WARNING", logger="deeph_zero"):
        molecules, bad = read_structures([path], spin=1)
    assert (bad, [(m.charge, m.spin) for m in molecules]) == ([], states)
    assert any(words in record.getMessage() for record in caplog.records)


CELL = np.array([[9, 0.1, 0], [0.4, 9.5, 0.2], [-0.3, 0.6, 10]])


@pytest.mark.parametrize(
    ("arrays", "cells", "pbc"),
    [
        ({"cell": CELL}, [CELL, CELL], (True,) * 3),
        ({"lattice": np.stack([CELL, CELL + np.eye(3)])}, [CELL, CELL + np.eye(3)], (True,) * 3),
        ({"lattice": CELL.T, "type": "d"}, [CELL, CELL], (True,) * 3),  # sGDML's
        ({"box": CELL.reshape(1, 9)}, [CELL, CELL], (True,) * 3),
        ({"box": [9.0, 10, 11]}, [np.diag([9, 10, 11])] * 2, (True,) * 3),
        ({"cells": [[9.0, 10, 11], [8, 9, 9]]}, [np.diag([9, 10, 11]), np.diag([8, 9, 9])], None),
        ({"cell": np.diag([9.0, 9, 9]), "pbc": [1, 1, 0]}, [np.diag([9, 9, 9])] * 2, (1, 1, 0)),
        ({"cell": CELL, "pbc": False}, None, (False,) * 3),
    ],
)
def test_cells_of_npz(tmp_path, arrays, cells, pbc):
    molecules, bad = read_structures([save(tmp_path, z=Z, R=TWO, **arrays)], crystals=True)
    assert bad == []
    assert [m.pbc for m in molecules] == [pbc or (True,) * 3] * 2
    for k, molecule in enumerate(molecules):
        if cells is None:
            assert molecule.lattice is None
        else:
            lattice = molecule.lattice * BOHR_IN_ANGSTROM
            np.testing.assert_allclose(lattice, cells[k], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "units",
    [
        {"units": "Bohr"},
        {"Unit": np.array([b"bohr", b"bohr"])},
        {"r_unit": "bohr", "units": "kcal/mol"},
    ],
    ids=["text", "bytes of each frame", "sGDML"],
)
def test_npz_in_bohr(tmp_path, units):
    positions = TWO / BOHR_IN_ANGSTROM
    (molecule, _), bad = read_structures([save(tmp_path, z=Z, R=positions, **units)])
    assert bad == []
    np.testing.assert_allclose(molecule.coords, positions[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("units", "words"),
    [
        ({"unit": "nm"}, "expected unit= angstrom or bohr, got 'nm'"),
        ({"length_unit": "furlong"}, "expected length_unit= angstrom or bohr, got 'furlong'"),
        ({"unit": "Bohr", "r_unit": "Ang"}, "got unit=Bohr and r_unit=Ang; leave one"),
        ({"units": ["angstrom", "bohr"]}, "expected one unit in units, got angstrom and bohr"),
    ],
)
def test_units_of_npz_that_cannot_be_used(tmp_path, units, words):
    molecules, bad = read_structures([save(tmp_path, z=Z, R=TWO, **units)])
    assert molecules == []
    assert [(b.frame, words in b.error) for b in bad] == [(None, True)]


def test_units_of_npz_that_are_none_of_length_are_said(tmp_path, caplog):
    molecules, bad = read_structures([save(tmp_path, z=Z, R=TWO, units="eV")])
    assert bad == []
    np.testing.assert_allclose(molecules[0].coords, XYZ / BOHR_IN_ANGSTROM, rtol=0, atol=1e-12)
    assert "units=eV is not used: the coordinates are read in angstrom" in caplog.text


def test_npz_that_announces_more_than_it_holds(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (10**12, 3), "fortran_order": False, "descr": "<f8"}
    )
    path = tmp_path / "huge.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("R.npy", header.getvalue() + bytes(72))
    molecules, bad = read_structures([path])
    assert molecules == []
    assert "announces 24000000000000 bytes and has 72" in str(bad[0])


def test_npz_that_unpacks_to_far_more(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_UNPACKED", 2**16)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, z=Z, R=np.zeros((10_000, 3, 3)))
    assert "unpacks to" in str(read_structures([path])[1][0])


def test_npz_that_is_none(tmp_path):
    path = tmp_path / "text.npz"
    path.write_text("no zip")
    assert "cannot read it" in str(read_structures([path])[1][0])


def test_formats_of_ase(tmp_path):
    frames = [Atoms(Z, xyz, info={"charge": 1, "spin": 1}) for xyz in TWO]
    ase.io.write(tmp_path / "md.traj", frames)
    with connect(tmp_path / "set.db") as database:
        for frame in frames:
            database.write(frame)
    ase.io.write(tmp_path / "one.pdb", frames[0])
    for name, count, places in (("md.traj", 2, 12), ("set.db", 2, 12), ("one.pdb", 1, 3)):
        molecules, bad = read_structures([tmp_path / name], charge=1, spin=1)
        assert bad == [], name
        assert len(molecules) == count
        for molecule, xyz in zip(molecules, TWO, strict=False):
            assert (molecule.charge, molecule.spin) == (1, 1)
            np.testing.assert_allclose(
                molecule.coords, xyz / BOHR_IN_ANGSTROM, atol=10.0**-places, rtol=0
            )


def test_hdf5_files_are_structures_in_bohr(tmp_path):
    path = tmp_path / "labels.h5"
    coords = XYZ / BOHR_IN_ANGSTROM
    matrix = np.eye(7)
    arrays = {"numbers": Z, "positions": coords, "fock": matrix, "density": matrix,
              "mo_energy": np.arange(7.0), "mo_occ": np.zeros(7)}  # fmt: skip
    facts = {"energy": -75.0, "charge": 1, "spin": 1, "xc": "pbe", "basis": "sto-3g"}
    with PredictionWriter(path) as writer:
        writer.write(arrays, facts)
        writer.write(arrays | {"positions": coords * 0}, facts)
    molecules, bad = read_structures([path])
    assert np.array_equal(molecules[0].coords, coords)
    assert (molecules[0].charge, molecules[0].spin, molecules[0].frame) == (1, 1, 0)
    assert [(b.frame, "on one point" in b.error) for b in bad] == [(1, True)]
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    assert "cannot read it" in str(read_structures([path])[1][0])


def test_a_damaged_group_of_hdf5_costs_only_itself(tmp_path):
    path = tmp_path / "set.h5"
    coords = XYZ / BOHR_IN_ANGSTROM
    damages = {
        "flat": {"positions": coords.ravel()},
        "nan": {"positions": coords * np.nan},
        "text": {"positions": "none"},
        "complex": {"positions": coords * 1j},
        "other length": {"numbers": Z[:2]},
        "fractions": {"numbers": Z * 1.5},
        "beyond": {"numbers": Z * 100},
        "charge": {"charge": "one"},
        "spin": {"spin": 0.5},
    }
    with h5py.File(path, "w") as file:
        for k, damage in enumerate([{}, *damages.values(), {}]):
            group = file.create_group(f"{k:04d}")
            facts = {"numbers": Z, "positions": coords, "charge": 1, "spin": 1} | damage
            for key in ("numbers", "positions"):
                group[key] = facts[key]
            group.attrs.update(charge=facts["charge"], spin=facts["spin"])
        (file.create_group("0011")).create_group("numbers")
        group = file.create_group("0012")
        group["numbers"] = h5py.ExternalLink("other.h5", "/numbers")
    molecules, bad = read_structures([path])
    assert [m.frame for m in molecules] == [0, len(damages) + 1]
    assert [b.frame for b in bad] == [*range(1, len(damages) + 1), 11, 12]
    assert [b.error for b in bad if ";" not in b.error or len(str(b).splitlines()) > 1] == []


def test_smiles_without_rdkit(tmp_path, monkeypatch):
    for name in ("rdkit", "rdkit.Chem"):
        monkeypatch.setitem(sys.modules, name, None)
    path = tmp_path / "set.smi"
    path.write_text("CCO\n")
    for source in (path, "smiles:CCO"):
        molecules, bad = read_structures([source])
        assert molecules == []
        assert "pip install 'deeph-zero[smiles]'" in str(bad[0])


@pytest.mark.skipif(not HAS_RDKIT, reason="needs the smiles extra")
def test_smiles(tmp_path):
    path = tmp_path / "set.smi"
    path.write_text("# ours\nCCO ethanol\n\nC#N\n[NH4+]\n[CH3]\nC(C\n[H][H]\n")
    molecules, bad = read_structures([path])
    assert [(b.frame, "expected a SMILES" in b.error) for b in bad] == [(4, True)]
    assert [len(m.numbers) for m in molecules] == [9, 3, 5, 4, 2]
    assert [(m.charge, m.spin) for m in molecules] == [(0, 0), (0, 0), (1, 0), (0, 1), (0, 0)]
    ethanol, again = molecules[0], read_structures(["smiles:CCO"])[0][0]
    assert np.array_equal(ethanol.coords, again.coords)
    bond = np.linalg.norm(ethanol.coords[1] - ethanol.coords[2]) * BOHR_IN_ANGSTROM
    assert 1.38 < bond < 1.46  # C-O of a force field, angstrom
