"""Bands of crystals on the page: from blocks, from levels that were stored, or a note why not."""

import h5py
import numpy as np
import pytest

from deeph_zero.cli.main import entry_point
from deeph_zero.host.hdf5 import PredictionWriter
from deeph_zero.report.crystals import crystal_figures
from deeph_zero.report.data import Structure
from deeph_zero.units import HARTREE_IN_EV


def structure(group="0000"):
    return Structure(entry={"file": "a.h5", "frame": int(group)}, group=group, periodic=True)


def stored(path, spins=1, **attributes):
    """Levels as `deeph-zero bands` writes them."""
    shape = (4, 2) if spins == 1 else (spins, 4, 2)
    arrays = {
        "numbers": np.array([79]), "positions": np.zeros((1, 3)),
        "band_energies": np.arange(8.0 * spins).reshape(shape) / 10,
        "band_distances": np.array([0.0, 0.5, 1.0, 1.5]), "band_ticks": np.array([0.0, 1.5]),
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        group = file.create_group("0000")
        for name, value in arrays.items():
            group[name] = value
        group.attrs.update({"path": "GX", "labels": ["G", "X"], "fermi": 0.25} | attributes)
    return path


@pytest.mark.parametrize("spins", [1, 2])
def test_stored_levels_are_drawn_as_they_are(tmp_path, spins):
    path = stored(tmp_path / "a.h5", spins)
    ((found, caption, figure),), notes = crystal_figures(path, [structure()])
    assert notes == []
    assert found == structure()
    assert caption == "Bands: path GX"
    (axes,) = figure.axes
    curves = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert len(curves) == 2 * spins
    np.testing.assert_allclose(
        curves[-1].get_ydata(),
        (np.arange(4) * 0.2 + 0.1 + 0.8 * (spins - 1) - 0.25) * HARTREE_IN_EV,
    )
    assert [t.get_text() for t in axes.get_xticklabels()] == ["Γ", "X"]


def test_states_are_drawn_where_they_are_stored(tmp_path):
    path = stored(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file["0000/dos"], file["0000/dos_energies"] = np.ones(5), np.linspace(0, 1, 5)
    ((_, _, figure),), _ = crystal_figures(path, [structure()])
    assert len(figure.axes) == 2


def test_a_crystal_without_blocks_is_a_note(tmp_path):
    path = tmp_path / "a.h5"
    with PredictionWriter(path) as writer:
        writer.write({"numbers": np.array([79]), "positions": np.zeros((1, 3))}, {"frame": 0})
    figures, notes = crystal_figures(path, [structure()])
    assert figures == []
    (note,) = notes
    assert note.startswith("No bands")
    assert note.endswith(".")


def test_the_page_and_the_command_bands_agree(tmp_path, monkeypatch):
    """Blocks of a label through both ways: the same curve at the same points."""
    monkeypatch.chdir(tmp_path)
    import torch

    from deeph_zero.ao.block_matrix import BlockMatrix
    from deeph_zero.data.formats.labels import LabelsSink
    from deeph_zero.data.formats.protocol import Matrices, Record
    from deeph_zero.data.formats.protocol import Structure as Atoms

    cells = torch.tensor([[0, 0, 0], [1, 0, 0], [-1, 0, 0]])
    pairs = torch.zeros(3, 2, dtype=torch.long)
    hop, unit = torch.tensor([[-0.4, 0.05, 0.05], [1.0, 0.02, 0.02]], dtype=torch.float64)
    matrices = Matrices(
        shells=((0,),), fock=BlockMatrix.packed(pairs, cells, hop, (1,)),
        overlap=BlockMatrix.packed(pairs, cells, unit, (1,)), facts={"fermi": -0.35},
    )  # fmt: skip
    atoms = Atoms(
        numbers=np.array([79]), coords=np.zeros((1, 3)), lattice=np.diag([5.0, 6.0, 20.0]),
        pbc=np.array([True, True, False]),
    )  # fmt: skip
    path = tmp_path / "a.h5"
    with PredictionWriter(path) as writer:
        LabelsSink(writer, "hsx").write(Record(atoms, matrices))
    ((_, caption, figure),), notes = crystal_figures(path, [structure()])
    assert notes == []
    assert "Fermi level -0.35000 Eh" in caption
    assert len(figure.axes) == 2, "with the density of states"
    assert entry_point(["bands", "a.h5", "-o", "b.h5", "-q", "--threads", "1"]) == 0
    ((_, other, again),), _ = crystal_figures(tmp_path / "b.h5", [structure()])
    assert caption.split(",")[0].endswith(other.split(": ")[1])
    ours, theirs = (
        np.concatenate([line.get_ydata() for line in one.axes[0].lines[:-1]])
        for one in (figure, again)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
