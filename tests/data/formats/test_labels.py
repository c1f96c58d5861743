"""This package's HDF5 as a source: dense labels, blocks, densities at k-points."""

import dataclasses

import h5py
import numpy as np
import pytest
import torch

from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.labels import LabelsSink, LabelsSource
from deeph_zero.data.formats.protocol import Record, read_record
from deeph_zero.data.labels import LabelStore
from deeph_zero.data.reading.content import WholeFileError
from deeph_zero.errors import InputError
from deeph_zero.host.hdf5 import PredictionWriter

from .conftest import SHELLS, assert_same, of_spinors, polarised


def test_blocks_are_no_labels(tmp_path, crystal, capsys):
    from deeph_zero.data.formats.deeph import DeepHSink

    (tmp_path / "a").mkdir()
    DeepHSink(tmp_path / "a", 1).write(crystal)
    assert entry_point(["convert", str(tmp_path / "a"), str(tmp_path / "b.h5"), "-q"]) == 0
    assert entry_point(["evaluate", str(tmp_path), str(tmp_path / "b.h5")]) == 2
    capsys.readouterr()
    with pytest.raises(InputError, match="a Gaussian basis, got real-space blocks"):
        LabelStore([tmp_path / "b.h5"])


def test_matrices_at_k_points_alone_are_no_blocks(tmp_path, crystal, capsys):
    """As labels of hybrid functionals have them."""
    with PredictionWriter(tmp_path / "a.h5") as writer:
        LabelsSink(writer, "label").write(crystal, {"kpts": np.zeros((1, 3))})
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["0000/blocks"]
    for target in ("b.cube", "folder"):
        assert entry_point(["convert", str(tmp_path / "a.h5"), str(tmp_path / target)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "at its k-points alone; `deeph-zero predict RUN STRUCTURES` makes those of" in line


def test_a_projected_potential_has_a_density_too(tmp_path, crystal, capsys):
    """Its levels and their occupations, where no matrix was kept."""
    kpts = np.array([[0.1, 0.2, 0.0], [0.0, 0.0, 0.5]])
    occ = np.zeros((2, 24))
    occ[:, :3] = 2
    more = {"kpts": kpts, "kweights": np.array([0.75, 0.25]), "mo_occ": occ}
    with PredictionWriter(tmp_path / "a.h5") as writer:
        LabelsSink(writer, "project").write(crystal, more)
    found = LabelsSource(tmp_path / "a.h5", lambda *_: ()).matrices(0).bloch()
    overlap = crystal.matrices.overlap.at_k(torch.from_numpy(kpts)).numpy()
    assert found.mesh is None
    # three pairs at each k-point, each matrix of them its own square
    np.testing.assert_allclose(np.einsum("skij,kji->sk", found.dm, overlap), 6, atol=1e-10)
    square = found.dm[0] @ overlap @ found.dm[0]
    np.testing.assert_allclose(square, 2 * found.dm[0], atol=1e-10)
    assert entry_point(["convert", str(tmp_path / "a.h5"), str(tmp_path / "b.cube")]) == 2
    assert (
        "expected a crystal in a Gaussian basis, got basis 'numerical'" in capsys.readouterr().err
    )


# ---- what is read of a group -------------------------------------------------------------------


def shells_of(numbers, basis):
    assert basis == "made"
    return tuple(SHELLS[int(z)] for z in numbers)


def dense_labels(path, molecule, facts=None, **changes):
    """A group as `deeph-zero label` writes it, without orbitals."""
    m, s = molecule.matrices, molecule.structure
    arrays = {
        "numbers": s.numbers, "positions": s.coords, "fock": m.fock.to_dense().numpy(),
        "overlap": m.overlap.to_dense().numpy(), "density": m.density.to_dense().numpy(),
    } | changes  # fmt: skip
    said = {"basis": "made", "xc": "pbe", "charge": 0, "spin": 0, "energy": -1.5} | (facts or {})
    with h5py.File(path, "w") as file:
        group = file.create_group("0000")
        for name, value in arrays.items():
            if value is not None:
                group[name] = value
        group.attrs.update({name: value for name, value in said.items() if value is not None})
    return LabelsSource(path, shells_of)


def test_dense_labels_are_blocks_of_a_molecule(tmp_path, molecule):
    source = dense_labels(tmp_path / "a.h5", molecule, {"source_id": "its name"})
    assert (len(source), source.group(0), source.order) == (1, "0000", "pyscf")
    assert source.place(0) == f"{tmp_path / 'a.h5'} frame 0"
    found = read_record(source, 0)
    assert_same(molecule, found)
    torch.testing.assert_close(
        found.matrices.density.to_dense(), molecule.matrices.density.to_dense()
    )
    assert found.matrices.facts == {"energy": -1.5, "basis": "made", "xc": "pbe"}
    assert found.structure.name == "its name"
    assert found.matrices.bloch is None


def test_a_rebuilt_matrix_is_the_one(tmp_path, molecule):
    rebuilt = 2 * molecule.matrices.fock.to_dense().numpy()
    source = dense_labels(tmp_path / "a.h5", molecule, fock_rebuilt=rebuilt, density=None)
    found = source.matrices(0)
    np.testing.assert_array_equal(found.fock.to_dense(), rebuilt)
    assert found.density is None


@pytest.mark.parametrize("kind", [None, polarised, of_spinors])
def test_blocks_there_and_back(tmp_path, crystal, kind):
    record = kind(crystal) if kind else crystal
    facts = {"xc": "pbe", "basis": "made", "folded": True, "energy": -2.5}
    record = Record(record.structure, dataclasses.replace(record.matrices, facts=facts))
    with PredictionWriter(tmp_path / "a.h5") as writer:
        LabelsSink(writer, "deeph").write(record, {"mulliken_charges": np.ones(3)}, {"more": 3})
    found = read_record(LabelsSource(tmp_path / "a.h5", shells_of), 0)
    assert_same(record, found)
    assert found.matrices.facts == facts
    with h5py.File(tmp_path / "a.h5") as file:
        group = file["0000"]
        assert group["mulliken_charges"][:].tolist() == [1, 1, 1]
        attributes = dict(group.attrs)
        assert (attributes["source_format"], attributes["more"]) == ("deeph", 3)
        assert attributes["source_id"] == "made"
        ends = group["block_offsets"][:]
        assert ends[-1] == group["blocks"].shape[-1]


def test_a_fixed_moment_has_a_fermi_level_of_each_spin(tmp_path, crystal):
    record, own = polarised(crystal), np.array([0.3, -0.1])
    facts = {"fermi": 0.1, "fermi_of_spins": own}
    record = Record(record.structure, dataclasses.replace(record.matrices, facts=facts))
    with PredictionWriter(tmp_path / "a.h5") as writer:
        LabelsSink(writer, "label").write(record)
    found = LabelsSource(tmp_path / "a.h5", shells_of).matrices(0).facts
    assert found["fermi"] == 0.1
    np.testing.assert_array_equal(found["fermi_of_spins"], own)

    occ = np.stack([np.ones((2, 24)), np.eye(2, 24)])  # all of spin up are filled
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["0000/mo_occ"] = occ
    found = LabelsSource(tmp_path / "a.h5", shells_of).matrices(0).facts
    np.testing.assert_array_equal(found["fermi_of_spins"], [np.inf, -0.1])
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["0000/mo_occ"][...] = 1 - np.round(occ)
    found = LabelsSource(tmp_path / "a.h5", shells_of).matrices(0).facts
    np.testing.assert_array_equal(found["fermi_of_spins"], [-np.inf, -0.1])


DAMAGE = {
    "basis": ({}, {"basis": None}, "expected basis, a name, or shells of the atoms, got neither"),
    "numerical": ({}, {"basis": "numerical"}, "or shells of the atoms, got neither"),
    "fock": ({"fock": np.zeros((3, 24, 24))}, {}, r"fock of shape \[nao, nao\] or \[2, nao, nao\]"),
    "size": ({"fock": np.eye(5)}, {}, "expected H of 24 functions, got 5; give the basis it is in"),
    "overlap": ({"overlap": np.eye(5)}, {}, "expected S of 24 functions, got 5"),
    "order": ({}, {"ao_order": "orca"}, "expected ao_order 'pyscf', got 'orca'"),
    "positions": ({"positions": np.zeros((2, 3))}, {}, "expected positions of shape"),
    "atoms": ({"numbers": np.array([6, 0, 6])}, {}, "expected atomic numbers from 1 to 118"),
    "heavy": ({"numbers": np.array([6, 119, 6])}, {}, "expected atomic numbers from 1 to 118"),
    "lattice": ({"lattice": np.ones((3, 3))}, {}, "expected a lattice of three vectors"),
    "shells": ({"shells": np.zeros((3, 3), int)}, {}, r"expected shells of shape \[shells, 2\]"),
    "atom": ({"shells": np.array([[3, 0]])}, {}, r"expected shells of shape \[shells, 2\]"),
    "complex": ({"fock": np.eye(24) + 0j}, {}, "expected fock of real numbers"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_group_is_one_line(tmp_path, molecule, case):
    changes, facts, words = DAMAGE[case]
    source = dense_labels(tmp_path / "a.h5", molecule, facts, **changes)
    with pytest.raises(InputError, match=words) as caught:
        read_record(source, 0)
    assert "\n" not in str(caught.value)


BLOCK_DAMAGE = {
    "pairs": (
        "block_atoms",
        np.zeros((3, 3), int),
        r"expected block_atoms \[blocks, 2\] and",
    ),
    "cells": (
        "block_cells",
        np.zeros((3, 3), int),
        r"expected block_atoms \[blocks, 2\] and",
    ),
    "atoms": ("block_atoms", np.full((243, 2), 7), "expected blocks that fit the shells"),
    "elements": ("blocks", np.zeros(5), "expected blocks that fit the shells"),
    "overlaps": ("overlap_blocks", np.zeros(5), "expected overlap_blocks that fit the shells"),
    "nan": ("blocks", np.full(5, np.nan), "expected finite blocks"),
}


@pytest.mark.parametrize("case", BLOCK_DAMAGE)
def test_damaged_blocks_are_one_line(tmp_path, crystal, case):
    name, value, words = BLOCK_DAMAGE[case]
    with PredictionWriter(tmp_path / "a.h5") as writer:
        LabelsSink(writer, "deeph").write(crystal)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["0000"][name]
        file["0000"][name] = value
    with pytest.raises(InputError, match=words):
        LabelsSource(tmp_path / "a.h5", shells_of).matrices(0)


BLOCH = {
    "kpts": ({"kpts": np.zeros((2, 2))}, {}, r"expected kpts of shape \[nk, 3\]"),
    "weights": ({"kweights": np.ones(3)}, {}, r"expected kweights \[2\] and density \[2, 24, 24\]"),
    "density": ({"density": np.zeros((2, 5, 5))}, {}, r"expected kweights \[2\] and density"),
    "mo_occ": (
        {"density": None, "mo_occ": np.ones((2, 5))},
        {},
        "expected mo_occ of 24 levels",
    ),
    "mesh": ({}, {"fft_mesh": [4, 4]}, "expected three numbers of points as fft_mesh"),
    "points": ({}, {"fft_mesh": [4, 4, 0]}, "expected three numbers of points as fft_mesh"),
}


def bloch_labels(path, crystal, more, facts):
    given = {"kpts": np.array([[0, 0, 0], [0.5, 0, 0]]), "density": np.stack([np.eye(24) + 0j] * 2)}
    given = {name: value for name, value in (given | more).items() if value is not None}
    with PredictionWriter(path) as writer:
        LabelsSink(writer, "label").write(crystal, given, facts)
    return LabelsSource(path, shells_of).matrices(0).bloch


def test_densities_at_k_points(tmp_path, crystal):
    found = bloch_labels(tmp_path / "a.h5", crystal, {}, {"fft_mesh": [4, 5, 6]})()
    assert (found.weights.tolist(), found.mesh) == ([0.5, 0.5], (4, 5, 6))
    assert found.dm.shape == (1, 2, 24, 24)
    more = {
        "kweights": np.array([0.25, 0.75]),
        "density": np.stack([np.eye(24) + 0j] * 4).reshape(2, 2, 24, 24),
    }
    two = bloch_labels(tmp_path / "b.h5", crystal, more, {})()
    assert (two.weights.tolist(), two.mesh, two.dm.shape) == ([0.25, 0.75], None, (2, 2, 24, 24))


@pytest.mark.parametrize("case", BLOCH)
def test_densities_that_do_not_fit(tmp_path, crystal, case):
    more, facts, words = BLOCH[case]
    with pytest.raises(InputError, match=words):
        bloch_labels(tmp_path / "a.h5", crystal, more, facts)()


def test_files_that_are_none(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"text" * 100)
    with pytest.raises(WholeFileError, match="expected labels in HDF5, cannot read it"):
        LabelsSource(tmp_path / "a.h5", shells_of)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = 3
    with pytest.raises(WholeFileError, match="expected a group per structure, got none"):
        LabelsSource(tmp_path / "b.h5", shells_of)
