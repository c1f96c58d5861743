"""``deeph-zero project`` from files to labels: matrices, levels and the lines it says."""

import dataclasses
import json

import ase
import ase.io
import h5py
import numpy as np
import pytest
import torch

from deeph_zero.cli.main import entry_point
from deeph_zero.data.crystal_labels import CrystalLabels
from deeph_zero.data.formats.labels import LabelsSource
from deeph_zero.errors import InputError
from deeph_zero.method import CrystalMethod, Method
from deeph_zero.units import BOHR_IN_ANGSTROM


@pytest.fixture
def handed(potential_cells, potential_run, radial_files):
    """A structure file and the potential of a run in any format."""

    def hand(name, kmesh, *, two=False, kind="npy", **changed):
        cell = potential_cells[name]
        found = potential_run(cell, kmesh, two=two)
        atoms = ase.Atoms(
            [cell.atom_pure_symbol(k) for k in range(cell.natm)],
            cell.atom_coords() * BOHR_IN_ANGSTROM,
            cell=changed.get("cell", cell.lattice_vectors() * BOHR_IN_ANGSTROM),
            pbc=changed.get("pbc", True),
        )
        structure = radial_files.folder / "s.xyz"
        ase.io.write(structure, atoms, format="extxyz", columns=["symbols", "positions"])
        potential = radial_files.folder / f"v.{kind}"
        if kind == "npy":
            values = found.values if two else found.values[0]
            np.save(potential, values)
        else:
            radial_files.write("v.cube", _cube(cell, found.values[0]))
        return cell, found, potential, structure

    return hand


def _cube(cell, values):
    lines = ["v", "of a run", f"{cell.natm} 0.0 0.0 0.0"]
    for n, vector in zip(cell.mesh, cell.lattice_vectors(), strict=True):
        lines.append(f"{n} " + " ".join(f"{x / n:.6f}" for x in vector))
    for charge, place in zip(cell.atom_charges(), cell.atom_coords(), strict=True):
        lines.append(f"{charge} {charge:.6f} " + " ".join(f"{x:.6f}" for x in place))
    flat = values.ravel()
    lines += ["".join(f"{x:13.5E}" for x in flat[k : k + 6]) for k in range(0, len(flat), 6)]
    return "\n".join([*lines, ""])


def call(*words):
    return entry_point([str(w) for w in ("project", *words)])


def test_matrices_levels_and_blocks_of_a_crystal(handed, radial_files):
    cell, found, potential, structure = handed("diamond", (3, 1, 2))
    out = radial_files.folder / "out.h5"
    words = ["--basis", "gth-szv", "--pseudo", "gth-pade", "--kmesh", 3, 1, 2, "-o", out]
    assert call(potential, structure, *words, "--block-mesh", 7, 7, 7, "--path", "GX", "-q") == 0
    summary = json.loads(out.with_suffix(".json").read_text())
    fock = np.asarray(found.mf.get_fock())
    scaled = cell.get_scaled_kpts(found.mf.kpts)
    with h5py.File(out) as file:
        group = file["0000"]
        kpts = group["kpts"][()]
        places = [int(np.abs(scaled - k).sum(1).argmin()) for k in kpts]
        assert np.abs(scaled[places] - kpts).max() < 1e-12
        # positions have eight decimals in the file
        assert np.abs(group["fock"][()] - fock[places]).max() < 1e-6
        levels = np.array([found.mf.mo_energy[p] for p in places])
        assert np.abs(group["mo_energy"][()] - levels).max() < 1e-6
        electrons = np.einsum(
            "k,kij,kji->", group["kweights"][()], group["density"][()], group["overlap"][()]
        )
        assert electrons.real == pytest.approx(8, abs=1e-10)
        assert group["band_energies"].shape == (len(group["band_kpts"]), 8)
        assert group.attrs["gauge"] == "lattice"
        assert group.attrs["pseudo"] == "gth-pade"
    assert summary["n_electrons"] == 8
    occupied = np.concatenate([e[:4] for e in found.mf.mo_energy]).max()
    empty = np.concatenate([e[4:] for e in found.mf.mo_energy]).min()
    assert summary["gap"] == pytest.approx(empty - occupied, abs=1e-6)
    # the blocks are those of another, finer mesh; they are labels like any other
    matrices = LabelsSource(out, lambda *_: ()).matrices(0)
    assert (
        float(
            (matrices.fock.at_k(torch.from_numpy(kpts)) - torch.from_numpy(fock[places]))
            .abs()
            .max()
        )
        < 1e-4
    )
    assert matrices.facts["basis"] == "gth-szv"
    # and crystals' labels, that `train` and `evaluate` take: without an energy
    labels = CrystalLabels([out])
    method = Method(xc="pbe", basis="gth-szv", crystal=CrystalMethod(pseudo="gth-pade"))
    label = labels.label(0, method)
    assert (label.energy, label.free_energy, label.kmesh) == (None, None, (3, 1, 2))
    assert float((label.fock[0] - torch.from_numpy(fock[places])).abs().max()) < 1e-6
    other = dataclasses.replace(method, basis="gth-dzvp")
    with pytest.raises(InputError, match="expected labels of basis"):
        labels.label(0, other)


def test_cube_of_a_molecule_in_a_box(handed, radial_files, capsys):
    """The structure has no cell: the cube's own is taken."""
    _cell, found, potential, structure = handed(
        "molecule", (1, 1, 1), kind="cube", cell=None, pbc=False
    )
    out = radial_files.folder / "out.h5"
    words = ["--basis", "gth-szv", "--pseudo", "gth-pade", "--kmesh", 1, 1, 1, "-o", out]
    assert call(potential, structure, *words) == 0
    with h5py.File(out) as file:
        fock = file["0000/fock"][0]
    # six digits of a potential of 1 Eh, and six decimals of a voxel's edges
    assert np.abs(fock - found.mf.get_fock()[0]).max() < 2e-5
    assert "no cell: that of" in capsys.readouterr().out


def test_two_spins_in_one_array_or_two(handed, radial_files):
    cell, found, potential, structure = handed("triplet", (1, 1, 1), two=True)
    words = ["--basis", "gth-szv", "--pseudo", "gth-pade", "--kmesh", 1, 1, 1, "--spin", 2, "-q"]
    assert call(potential, structure, *words, "-o", radial_files.folder / "one.h5") == 0
    for k, name in enumerate(("up", "down")):
        np.save(radial_files.folder / f"{name}.npy", found.values[k])
    two = [radial_files.folder / "up.npy", structure, "--down", radial_files.folder / "down.npy"]
    assert call(*two, *words, "-o", radial_files.folder / "two.h5") == 0
    expected = np.asarray(found.mf.get_fock())
    scaled = cell.get_scaled_kpts(found.mf.kpts)
    for name in ("one", "two"):
        with h5py.File(radial_files.folder / f"{name}.h5") as file:
            order = [int(np.abs(scaled - k).sum(1).argmin()) for k in file["0000/kpts"][()]]
            assert np.abs(file["0000/fock"][()] - expected[:, order]).max() < 1e-6
    summary = json.loads((radial_files.folder / "two.json").read_text())
    assert summary["magnetic_moment"] == pytest.approx(2, abs=1e-9)


def test_coarse_grids_are_warned_about(handed, radial_files, capsys):
    _cell, found, _, structure = handed("molecule", (1, 1, 1))
    coarse = radial_files.folder / "coarse.npy"
    np.save(coarse, found.values[0][::3, ::3, ::3])
    words = ["--basis", "gth-szv", "--pseudo", "gth-pade", "--kmesh", 1, 1, 1]
    assert call(coarse, structure, *words, "-o", radial_files.folder / "a.h5") == 0
    said = capsys.readouterr().err
    assert "is coarse for this basis" in said
    assert (
        call(coarse, structure, *words, "-o", radial_files.folder / "b.h5", "--ke-cutoff", 60) == 0
    )
    assert "is coarse for this basis" not in capsys.readouterr().err
    summary = json.loads((radial_files.folder / "b.json").read_text())
    assert min(summary["fft_mesh"]) > 20
    assert summary["grid_overlap_error"] < 1e-6


WRONG = {
    "basis": (["--basis", "def9"], "--basis: expected functions for H, def9 has none"),
    "pseudo": ([], "--pseudo: expected a pseudopotential for H, got none"),
    "mesh": (["--kmesh", "2", "0", "1"], "--kmesh: expected three whole numbers from 1 to 99"),
    "path": (["--path", "GQ"], "--path: expected special points out of "),
    "charge": (["--charge", "3"], "expected electrons, the cores have 2 and the charge is 3"),
    "unit": (["--unit", "kcal"], "--unit: expected"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_words(name, handed, radial_files, capsys):
    _, _, potential, structure = handed("molecule", (1, 1, 1))
    words, message = WRONG[name]
    given = [] if name == "pseudo" else ["--pseudo", "gth-pade"]
    given += [] if name == "basis" else ["--basis", "gth-szv"]
    out = radial_files.folder / "out.h5"
    assert call(potential, structure, *given, *words, "-o", out, "-q") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_other_cells_are_refused_with_both_sides(handed, radial_files, capsys):
    cell, _, potential, _ = handed("molecule", (1, 1, 1), kind="cube")
    turned = cell.lattice_vectors() @ np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    _, _, _, structure = handed("molecule", (1, 1, 1), kind="cube", cell=turned * BOHR_IN_ANGSTROM)
    assert (
        call(potential, structure, "--pseudo", "gth-pade", "-o", radial_files.folder / "o.h5") == 2
    )
    said = capsys.readouterr().err
    assert "(4.200 0.000 0.000; 0.100 4.000 0.000; 0.000 0.000 4.400) angstrom" in said
    assert "the same cell in another orientation" in said
