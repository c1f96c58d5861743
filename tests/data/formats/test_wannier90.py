"""Wannier90's H(R): read back by hand, its levels against those of H and S."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.linalg import eigh

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats import wannier90
from deeph_zero.data.formats.deeph import DeepHSink
from deeph_zero.data.formats.protocol import Matrices, Record
from deeph_zero.data.formats.wannier90 import HRSink
from deeph_zero.errors import InputError
from deeph_zero.units import HARTREE_IN_EV

from .conftest import of_spinors, polarised


def read(path):
    """What Wannier90's own readers expect: counts, degeneracies in rows of 15, elements."""
    lines = path.read_text().split("\n")
    n, cells = int(lines[1]), int(lines[2])
    rows = -(-cells // 15)
    weights = np.array(" ".join(lines[3 : 3 + rows]).split(), dtype=float)
    assert len(weights) == cells
    table = np.array([line.split() for line in lines[3 + rows :] if line], dtype=float)
    assert len(table) == cells * n * n
    # the first index runs fastest
    assert table[: n + 1, 3].tolist() == [*range(1, n + 1), 1]
    matrices = (table[:, 5] + 1j * table[:, 6]).reshape(cells, n, n).transpose(0, 2, 1)
    return table[:: n * n, :3], weights, matrices


def levels(path, kpt):
    cells, weights, matrices = read(path)
    phases = np.exp(2j * np.pi * cells @ kpt) / weights
    found = np.einsum("r,rij->ij", phases, matrices)
    np.testing.assert_allclose(found, found.conj().T, atol=1e-8)
    return np.linalg.eigvalsh(found)


def hydrogens(record):
    """The H atoms of the crystal alone; a tenth of their overlaps with others."""
    m, s = record.matrices, record.structure
    only = m.fock.pairs.eq(1).all(1)

    def part(matrix):
        found = matrix.select(only)
        return BlockMatrix.packed(0 * found.pairs, found.cells, found.values, (4,))

    overlap = part(m.overlap)
    away = overlap.cells.any(1)[overlap.pattern.block_of]
    overlap = overlap.with_values(torch.where(away, 0.1, 1.0) * overlap.values)
    matrices = Matrices(shells=m.shells[1:2], fock=part(m.fock), overlap=overlap)
    atoms = dataclasses.replace(s, numbers=s.numbers[1:2], coords=s.coords[1:2])
    return Record(atoms, matrices)


@pytest.mark.parametrize("kind", [None, polarised, of_spinors])
def test_levels_are_those_of_the_overlapping_functions(tmp_path, crystal, kind):
    record = hydrogens(crystal)
    record = kind(record) if kind else record
    HRSink(tmp_path / "a_hr.dat").write(record)
    m, kpt = record.matrices, np.array([0.21, -0.33, 0.45])
    s = m.overlap.at_k(torch.tensor(kpt[None]))[0].numpy()
    if kind is of_spinors:
        s = np.kron(np.eye(2), s)
        h = m.fock.at_k(torch.tensor(kpt[None]))[0].numpy()
        spins = np.concatenate([[0] * n + [1] * n for n in m.sizes])
        order = np.argsort(spins, kind="stable")
        wanted = eigh(h[np.ix_(order, order)], s, eigvals_only=True)
    else:
        h = m.fock.at_k(torch.tensor(kpt[None])).reshape(-1, *s.shape).numpy()
        wanted = np.sort(np.concatenate([eigh(x, s, eigvals_only=True) for x in h]))
    got = levels(tmp_path / "a_hr.dat", kpt)
    np.testing.assert_allclose(got, wanted * HARTREE_IN_EV, atol=1e-4)
    if kind is polarised:
        _, _, matrices = read(tmp_path / "a_hr.dat")
        assert not matrices[:, :4, 4:].any()
        np.testing.assert_allclose(matrices[:, 4:, 4:], 0.5 * matrices[:, :4, :4], atol=1e-11)


def test_with_the_command(tmp_path, molecule, capsys):
    (tmp_path / "a").mkdir()
    DeepHSink(tmp_path / "a", 1).write(molecule)
    out = tmp_path / "b_hr.dat"
    assert entry_point(["convert", str(tmp_path / "a"), str(out), "-q"]) == 0
    m = molecule.matrices
    wanted = eigh(m.fock.to_dense(), m.overlap.to_dense(), eigvals_only=True) * HARTREE_IN_EV
    np.testing.assert_allclose(levels(out, np.zeros(3)), wanted, atol=1e-8)
    assert entry_point(["convert", str(out), str(tmp_path / "c"), "--from", "wannier90"]) == 2
    assert "--from wannier90: expected a format to read" in capsys.readouterr().err


def test_dependent_functions_are_refused(tmp_path, crystal):
    record = hydrogens(crystal)
    m = record.matrices
    doubled = m.overlap.with_values(torch.ones_like(m.overlap.values))
    record = dataclasses.replace(record, matrices=dataclasses.replace(m, overlap=doubled))
    with pytest.raises(InputError, match="expected linearly independent functions"):
        HRSink(tmp_path / "a_hr.dat").write(record)


def test_only_probes_are_summed_one_k_point_after_another(tmp_path, crystal, monkeypatch):
    record, plain, asked = hydrogens(crystal), BlockMatrix.at_k, []
    monkeypatch.setattr(
        BlockMatrix, "at_k", lambda self, kpts: asked.append(len(kpts)) or plain(self, kpts)
    )
    HRSink(tmp_path / "a_hr.dat").write(record)
    assert asked == [3, 3]  # H and S: a mesh of thousands of points is a Fourier transform


@pytest.mark.parametrize("kind", [None, of_spinors])
def test_planes_of_the_mesh_follow_each_other(tmp_path, crystal, monkeypatch, kind):
    """Only H(R) is held for all cells; of real matrices half of the planes are conjugate."""
    record, plain, asked = hydrogens(crystal), wannier90._inverse_root, []
    record = kind(record) if kind else record
    monkeypatch.setattr(wannier90, "_inverse_root", lambda s: asked.append(len(s)) or plain(s))
    HRSink(tmp_path / "a_hr.dat").write(record)
    counts = [2 * int(r) + 1 for r in record.matrices.fock.cells.abs().max(0).values]
    planes = max(counts)
    plane = int(np.prod(counts)) // planes
    at_first = asked[1 : 1 + (planes if kind else planes // 2 + 1)]  # behind the probes
    assert at_first == [plane] * len(at_first)
    assert planes > 1


def test_cells_of_zeros_are_left_out(tmp_path, crystal):
    """A block that is far away makes the mesh wide, and nearly all of it negligible."""
    record = hydrogens(crystal)
    m = record.matrices
    cells = m.fock.cells
    far = torch.tensor([[0, 0, 6], [0, 0, -6]])
    pairs, zeros = torch.zeros(2, 2, dtype=torch.long), torch.zeros(32, dtype=torch.float64)
    fock, overlap = (
        BlockMatrix.packed(
            torch.cat([one.pairs, pairs]), torch.cat([one.cells, far]),
            torch.cat([0.01 * one.values if one is m.overlap else one.values, zeros]), (4,),
        )
        for one in (m.fock, m.overlap)
    )  # fmt: skip
    home = torch.cat([(cells == 0).all(1), torch.tensor([False, False])])
    on = home[overlap.pattern.block_of]
    overlap = overlap.with_values(torch.where(on, 100.0, 1e-9) * overlap.values)
    matrices = dataclasses.replace(m, fock=fock, overlap=overlap)
    HRSink(tmp_path / "a_hr.dat").write(dataclasses.replace(record, matrices=matrices))
    found, weights, written = read(tmp_path / "a_hr.dat")
    mesh = int(np.prod([2 * int(r) + 1 for r in fock.cells.abs().max(0).values]))
    assert len(found) < mesh / 2
    assert (weights == 1).all()
    there = {tuple(cell) for cell in found.astype(int).tolist()}
    assert there == {tuple(-x for x in cell) for cell in there}
    largest = np.abs(written).max((1, 2))
    for cell, size in zip(found, largest, strict=True):
        opposite = largest[(found == -cell).all(1)]
        assert max(size, *opposite) > 1e-10
    for kpt in np.random.default_rng(1).uniform(-0.5, 0.5, (5, 3)):
        at = torch.tensor(kpt[None])
        wanted = eigh(fock.at_k(at)[0].numpy(), overlap.at_k(at)[0].numpy(), eigvals_only=True)
        np.testing.assert_allclose(
            levels(tmp_path / "a_hr.dat", kpt), wanted * HARTREE_IN_EV, atol=1e-7
        )
