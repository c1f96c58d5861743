"""Bands and densities of states of stored blocks, against PySCF and formulas."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from pyscf.pbc import dft, gto

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.labels import LabelsSink
from deeph_zero.data.formats.protocol import Matrices, Record, Structure
from deeph_zero.host.files import temporary_beside
from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.jobs import bands
from deeph_zero.kohnsham.k_path import k_path

CHAIN = """2
Lattice="1.9 0 0 0 2.3 0 0 0.05 2.1" pbc="T T T"
H 0 0 0.05
H 0.8 0.05 0
"""


def toy(path, *, spins=False, fermi=0.1, **facts):
    """One s function per cell of a square layer: ε(k) = -2t (cos x + cos y) + ε0 in closed form."""
    cells = torch.tensor([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
    pairs = torch.zeros(5, 2, dtype=torch.long)
    up = torch.tensor([0.1, -0.05, -0.05, -0.05, -0.05], dtype=torch.float64)
    values = torch.stack([up, up + torch.eye(5, dtype=torch.float64)[0]]) if spins else up
    overlap = torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.float64)
    matrices = Matrices(
        shells=((0,),),
        fock=BlockMatrix.packed(pairs, cells, values, (1,)),
        overlap=BlockMatrix.packed(pairs, cells, overlap, (1,)),
        facts=({} if fermi is None else {"fermi": fermi}) | facts,
    )
    structure = Structure(
        numbers=np.array([1]),
        coords=np.zeros((1, 3)),
        lattice=np.diag([4.0, 4.0, 20.0]),
        pbc=np.array([True, True, False]),
    )
    with PredictionWriter(path) as writer:
        LabelsSink(writer, "toy").write(Record(structure, matrices))
    return path


def run(*words):
    return entry_point(["bands", *(str(w) for w in words), "--threads", "1"])


@pytest.mark.parametrize(("at", "code"), [(1, 130), (2, 0)])
def test_ctrl_c_ends_behind_the_crystal_and_not_where_it_is_the_last(
    tmp_path, monkeypatch, ctrl_c_in, at, code
):
    monkeypatch.chdir(tmp_path)
    files = toy(tmp_path / "t.h5"), toy(tmp_path / "u.h5")
    with ctrl_c_in(bands, "_crystal", at):
        assert run(*files, "--points", 3, "-o", "b.h5") == code
    assert json.loads((tmp_path / "b.json").read_text())["n_structures"] == at


def test_a_label_gives_pyscfs_bands(tmp_path, monkeypatch):
    """PySCF's F of the label's density, diagonalised by PySCF at the path's points."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chain.xyz").write_text(CHAIN)
    words = "label chain.xyz -o c.h5 --basis gth-szv --kmesh 2 1 1 --ke-cutoff 80 --threads 1"
    assert entry_point(words.split()) == 0
    assert run("c.h5", "--path", "GY", "--points", 3, "-o", "b.h5") == 0
    with h5py.File("c.h5") as labels, h5py.File("b.h5") as found:
        group, bands = labels["0000"], found["0000"]
        cell = gto.M(
            a=group["lattice"][()], unit="B", basis="gth-szv", pseudo="gth-pbe", verbose=0,
            atom=[("H", x) for x in group["positions"][()]], mesh=group.attrs["fft_mesh"],
        )  # fmt: skip
        mf = dft.KRKS(cell, cell.get_abs_kpts(group["kpts"][()]), xc="pbe")
        levels, _ = mf.get_bands(
            cell.get_abs_kpts(bands["band_kpts"][()]), dm_kpts=group["density"][()]
        )
        np.testing.assert_allclose(bands["band_energies"][()], np.array(levels), atol=2e-6)
        assert bands["band_distances"][-1] == pytest.approx(bands["band_ticks"][-1])
    (entry,) = json.loads((tmp_path / "b.json").read_text())["structures"]
    assert [name for name, _ in entry["labels"]] == ["G", "Y"]
    assert entry["fermi"] is not None


def test_a_metal_and_its_density_of_states(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy(tmp_path / "t.h5")
    assert run("t.h5", "--path", "GXM", "--points", 21, "--dos", "--plot", "p.png") == 0
    (entry,) = json.loads((tmp_path / "t_bands.json").read_text())["structures"]
    assert entry["metal"] is True
    assert entry["gap"] == 0
    with h5py.File("t_bands.h5") as handle:
        group = handle["0000"]
        x, y, _ = 2 * np.pi * group["band_kpts"][()].T
        expected = 0.1 - 0.1 * (np.cos(x) + np.cos(y))
        np.testing.assert_allclose(group["band_energies"][:, 0], expected, atol=1e-12)
        grid, dos = group["dos_energies"][()], group["dos"][()]
        assert np.trapezoid(dos, grid) == pytest.approx(2.0, abs=1e-6)
        half = grid <= 0.1
        assert np.trapezoid(dos[half], grid[half]) == pytest.approx(1.0, abs=0.01)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_two_spins_have_a_gap_between_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toy(tmp_path / "t.h5", spins=True, fermi=0.6)
    assert run("t.h5", "--path", "GXM", "--points", 21, "--dos") == 0
    (entry,) = json.loads((tmp_path / "t_bands.json").read_text())["structures"]
    assert entry["vbm"] == pytest.approx(0.3)
    assert entry["cbm"] == pytest.approx(0.9)
    assert entry["gap"] == pytest.approx(0.6)
    np.testing.assert_allclose(entry["vbm_k"], [0.5, 0.5, 0])
    np.testing.assert_allclose(entry["cbm_k"], [0, 0, 0])
    assert entry["direct"] is False
    with h5py.File("t_bands.h5") as handle:
        assert handle["0000"]["band_energies"].shape == (2, 21, 1)
        assert handle["0000"]["dos"].shape[0] == 2


def test_spins_of_a_fixed_moment_overlap(tmp_path, monkeypatch, capsys):
    """Spin up, to 0.3, is filled; spin down, from 0.9 on, is too where its own level says so."""
    monkeypatch.chdir(tmp_path)
    toy(tmp_path / "t.h5", spins=True, fermi=0.5, fermi_of_spins=np.array([-0.5, 1.5]))
    assert run("t.h5", "--path", "GXM", "--points", 21, "--plot", "t.png") == 0
    (entry,) = json.loads((tmp_path / "t_bands.json").read_text())["structures"]
    assert (entry["vbm"], entry["cbm"]) == (pytest.approx(1.3), pytest.approx(-0.1))
    assert (entry["gap"], entry["metal"]) == (0.0, False)
    assert "spins overlap" in capsys.readouterr().out
    with h5py.File("t_bands.h5") as handle:
        assert handle["0000"].attrs["fermi_of_spins"].tolist() == pytest.approx([-0.1, 1.3])
    assert entry_point(["report", "t_bands.h5"]) == 0
    assert "mean Fermi level" in Path("t_bands_report.html").read_text()


@pytest.mark.parametrize("command", ["bands", "evaluate"])
def test_what_a_killed_run_left_is_removed(command, tmp_path, monkeypatch):
    """Each command's outputs, named in full; what a living process writes stays."""
    monkeypatch.chdir(tmp_path)
    toy(tmp_path / "t.h5")
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as ended:
        pass
    outs = ["o.h5", "o.json"] if command == "bands" else ["o.json"]
    living = [temporary_beside(tmp_path / name) for name in outs]
    killed = [p.with_name(p.name.replace(f".{os.getpid()}-", f".{ended.pid}-")) for p in living]
    for path in (*living, *killed):
        path.write_bytes(b"half")
    words = ["t.h5", "-o", outs[0]] if command == "bands" else ["t.h5", "t.h5", "-o", "o.json"]
    assert entry_point([command, *words, "-q"]) == 0
    assert [path.exists() for path in killed] == [False] * len(killed)
    assert all(path.exists() for path in living)


def test_without_a_fermi_level_there_is_no_gap(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    toy(tmp_path / "t.h5", fermi=None)
    assert run("t.h5", "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)["structures"]
    assert entry["gap"] is None
    assert entry["path"] == k_path(np.diag([4.0, 4, 20]), (True, True, False)).path


def test_several_files_and_one_bad_frame(tmp_path, monkeypatch, capsys):
    """What can be computed is written, numbered pictures too; exit code 1."""
    monkeypatch.chdir(tmp_path)
    toy(tmp_path / "a.h5")
    toy(tmp_path / "b.h5")
    with h5py.File("b.h5", "r+") as handle:
        handle["0000/blocks"][...] = np.nan
    toy(tmp_path / "c.h5")
    assert run("a.h5", "b.h5", "c.h5", "--plot", "p.png", "-o", "o.h5") == 1
    assert "b.h5 frame 0: expected finite blocks" in capsys.readouterr().err
    with h5py.File("o.h5") as handle:
        assert list(handle) == ["0000", "0001"]
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["p_0000.png", "p_0001.png"]
    assert run("a.h5", "-o", "o.h5") == 2
    assert run("a.h5", "-o", "o.h5", "--overwrite") == 0


@pytest.mark.parametrize("target", ["deeph", "deeph-legacy"])
def test_a_labels_bands_survive_deephs_folders(target, tmp_path, monkeypatch):
    """Blocks out and back in: the same levels at k-points off the SCF's mesh."""
    monkeypatch.chdir(tmp_path)
    toy(tmp_path / "t.h5", spins=True, fermi=0.6)
    assert entry_point(["convert", "t.h5", "folder", "--to", target]) == 0
    assert entry_point(["convert", "folder", "back.h5"]) == 0
    assert run("t.h5", "back.h5", "--path", "GXM", "--points", 11, "-o", "b.h5") == 0
    with h5py.File("b.h5") as handle:
        one, other = (handle[name]["band_energies"][()] for name in ("0000", "0001"))
        np.testing.assert_allclose(one, other, atol=1e-9)
    first, second = json.loads((tmp_path / "b.json").read_text())["structures"]
    assert first["gap"] == pytest.approx(second["gap"], abs=1e-9)
