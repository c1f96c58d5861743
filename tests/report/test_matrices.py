"""Reports on matrices whose functions nobody knows: converted files, and files of ``bands``."""

import json

import numpy as np
import torch

from deeph_zero.ao.block_matrix import BlockMatrix
from deeph_zero.cli.main import entry_point
from deeph_zero.data.formats.labels import LabelsSink
from deeph_zero.data.formats.protocol import Matrices, Record, Structure
from deeph_zero.host.hdf5 import PredictionWriter


def converted(path, *, lattice):
    """A sheet (or molecule) of one s function, two spins."""
    cells = [(0, 0, 0), (1, 0, 0), (-1, 0, 0)] if lattice is not None else [(0, 0, 0)]
    pattern = torch.zeros(len(cells), 2, dtype=torch.long), torch.tensor(cells)
    hop = torch.tensor([-0.4, 0.05, 0.05])[: len(cells)].double()
    unit = torch.tensor([1.0, 0.02, 0.02])[: len(cells)].double()
    matrices = Matrices(
        shells=((0,),),
        fock=BlockMatrix.packed(*pattern, torch.stack([hop, hop + 0.03 * unit]), (1,)),
        overlap=BlockMatrix.packed(*pattern, unit, (1,)),
        facts={"fermi": -0.35},
    )
    structure = Structure(
        numbers=np.array([79]),
        coords=np.zeros((1, 3)),
        lattice=lattice,
        pbc=np.array([lattice is not None] * 2 + [False]),
    )
    with PredictionWriter(path) as writer:
        LabelsSink(writer, "hsx").write(Record(structure, matrices))
    summary = {"source_format": "hsx", "source": "/a/gold.HSX", "failed": []}
    path.with_suffix(".json").write_text(json.dumps(summary))
    return str(path)


SHEET = np.diag([5.0, 6.0, 20.0])


def test_bands_of_converted_matrices_are_drawn(tmp_path, capsys):
    name = converted(tmp_path / "gold.h5", lattice=SHEET)
    assert entry_point(["report", name]) == 0
    page = (tmp_path / "gold_report.html").read_text()
    assert "Levels of stored matrices, converted from hsx" in page
    assert "gold.HSX" in page
    assert "Fermi level -0.35000 Eh" in page
    assert page.count("<svg") == 1
    bands = str(tmp_path / "lines.h5")
    assert (
        entry_point(["bands", name, "-o", bands, "--path", "GXSY", "--points", "9", "--dos"]) == 0
    )
    assert entry_point(["report", bands]) == 0
    page = (tmp_path / "lines_report.html").read_text()
    assert "Bands: path GXSY" in page
    assert page.count("<svg") == 1
    capsys.readouterr()


def test_a_molecule_of_unknown_functions_is_named(tmp_path):
    assert entry_point(["report", converted(tmp_path / "atom.h5", lattice=None)]) == 0
    page = (tmp_path / "atom_report.html").read_text()
    assert "known by their angular momenta alone" in page
    assert "No structure was finished" not in page
