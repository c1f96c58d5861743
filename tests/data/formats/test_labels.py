"""This package's HDF5 as a source: dense labels, blocks, densities at k-points."""

import h5py
import numpy as np
import pytest
import torch

from deeph_zero.cli.main import entry_point


def test_blocks_are_no_labels(tmp_path, crystal, capsys):
    from deeph_zero.data.formats.deeph import DeepHSink

    (tmp_path / "a").mkdir()
    DeepHSink(tmp_path / "a", 1).write(crystal)
    assert entry_point(["convert", str(tmp_path / "a"), str(tmp_path / "b.h5"), "-q"]) == 0
    assert entry_point(["evaluate", str(tmp_path), str(tmp_path / "b.h5")]) == 2
    capsys.readouterr()
    from deeph_zero.data.labels import LabelStore
    from deeph_zero.errors import InputError

    with pytest.raises(InputError, match="a Gaussian basis, got real-space blocks"):
        LabelStore([tmp_path / "b.h5"])


def test_matrices_at_k_points_alone_are_no_blocks(tmp_path, crystal, capsys):
    """As labels of hybrid functionals have them."""
    from deeph_zero.data.formats.labels import LabelsSink
    from deeph_zero.host.hdf5 import PredictionWriter

    with PredictionWriter(tmp_path / "a.h5") as writer:
        LabelsSink(writer, "label").write(crystal, {"kpts": np.zeros((1, 3))})
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["0000/blocks"]
    for target in ("b.cube", "folder"):
        assert entry_point(["convert", str(tmp_path / "a.h5"), str(tmp_path / target)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "matrices at its k-points alone; those of hybrid functionals stay in" in line


def test_a_projected_potential_has_a_density_too(tmp_path, crystal, capsys):
    """Its levels and their occupations, where no matrix was kept."""
    from deeph_zero.data.formats.labels import LabelsSink, LabelsSource
    from deeph_zero.host.hdf5 import PredictionWriter

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
