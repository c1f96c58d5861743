"""A crystal whose dense matrices would be too large: predict and bands by sparse blocks."""

import json

import h5py
import numpy as np
import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.cli.main import entry_point
from deeph_zero.jobs import crystals
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import crystal_meta
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict import band_structure, crystal_model
from deeph_zero.settings.config import MethodConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig

CHAIN = """2
Lattice="2.06 0 0 0 2.75 0 0 0.05 2.9" pbc="T T T"
H 0.05 0 0.1
H 0.63 0.37 0.47
"""


def run(*words):
    return entry_point([*(str(w) for w in words), "--threads", "1", "--overwrite"])


def test_blocks_and_bands_are_those_of_a_small_crystal(tmp_path, monkeypatch, capfd):
    """The same cell is taken either way."""
    torch.manual_seed(3)
    spec = default_spec(
        BasisLayout.from_shells({1: (0,)}), "tiny", cutoff=7.0, inputs="geometry", balanced=False
    )
    network = FockNetwork(spec).double()
    for weights in network.parameters():
        weights.data += 0.05 * torch.randn_like(weights)
    method = MethodConfig.parse({"basis": "gth-szv", "xc": "lda,vwn"})
    crystal = SmearedCrystalConfig.parse(
        {"ke_cutoff": 30.0, "pseudo": "gth-pade", "smearing": 0.01}
    )
    save_model(tmp_path, network, crystal_meta(method, crystal, spec, []))
    chain = tmp_path / "chain.xyz"
    chain.write_text(CHAIN)
    words = ["--no-certificate", "--kmesh", "2", "1", "1"]
    paths = ["--path", "GX", "--points", "3", "--kmesh", "2", "1", "1"]
    found = {}
    for name, large in (("dense", 2000), ("sparse", 1)):
        monkeypatch.setattr(crystal_model, "LARGE", large)
        monkeypatch.setattr(band_structure, "LARGE", large)
        monkeypatch.setattr(
            crystals, "MOST_GRID_POINTS", 10 if large == 1 else 10**7
        )  # a grid only layers keep
        out, bands = tmp_path / f"{name}.h5", tmp_path / f"{name}_bands.h5"
        assert run("predict", tmp_path, chain, *words, "-o", out) == 0
        assert ("sparse blocks" in capfd.readouterr().err) == (large == 1)
        assert run("bands", tmp_path, chain, *paths, "-o", bands) == 0
        again = tmp_path / f"{name}_again.h5"
        assert run("bands", out, *paths[:4], "-o", again) == 0
        with h5py.File(bands) as one, h5py.File(again) as other:
            energies = one["0000"]["band_energies"][()]
            np.testing.assert_allclose(other["0000"]["band_energies"][()], energies, atol=1e-4)
        entry = json.loads(out.with_suffix(".json").read_text())["structures"][0]
        found[name] = energies, [entry[key] for key in ("homo", "lumo", "fermi")]
    assert run("predict", tmp_path, chain, *words[1:], "-o", tmp_path / "e.h5") == 2
    assert "million points" in capfd.readouterr().err
    for ours, exact in zip(found["sparse"], found["dense"], strict=True):
        np.testing.assert_allclose(ours, exact, atol=1e-4)
    assert run("bands", tmp_path, chain, *paths, "--dos", "-o", tmp_path / "d.h5") == 2
    assert "--dos" in capfd.readouterr().err
