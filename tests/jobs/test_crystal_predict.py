"""One crystal of `predict` as a record: arrays, cost, and what is said on the way."""

import dataclasses

import numpy as np
import pytest
import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.cli.main import entry_point
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.saying import Naming
from deeph_zero.jobs.crystal_predict import predict_crystal_record
from deeph_zero.jobs.journal import digest
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import crystal_meta
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict import crystal_model, crystal_record
from deeph_zero.predict.crystal_model import CrystalModel
from deeph_zero.settings.config import MethodConfig, PredictConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig

CRYSTAL = Molecule(
    numbers=np.array([1, 1]),
    coords=np.array([[0.1, 0, 0.2], [1.2, 0.7, 0.9]]),
    lattice=np.array([[4.0, 0, 0], [0, 5.2, 0], [0, 0.1, 5.5]]),
    pbc=(True, True, True),
    file="c.xyz",
    frame=2,
)


@pytest.fixture(scope="module")
def meta_and_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layout = BasisLayout.from_shells({1: (0,)})
        spec = default_spec(layout, "tiny", cutoff=7.0, inputs="geometry", balanced=False)
        network = FockNetwork(spec).double().eval()
    crystal = SmearedCrystalConfig.parse(
        {"kmesh": (1, 1, 1), "ke_cutoff": 15.0, "pseudo": "gth-pade"}
    )
    method = MethodConfig.parse({"basis": "gth-szv", "xc": "lda,vwn"})
    return crystal_meta(method, crystal, spec, [CRYSTAL]), network


@pytest.fixture(scope="module")
def model(meta_and_network):
    meta, network = meta_and_network
    return CrystalModel(network, meta)


def recorded(model, **asked):
    said = []
    config = PredictConfig.parse(asked)
    return predict_crystal_record(5, CRYSTAL, model, config, said.append, naming=Naming()), said


def test_a_record_holds_what_was_predicted(model):
    found, _ = recorded(model)
    wanted = model.predict_structure(CRYSTAL, model.settings())
    assert (found.index, found.digest, found.auxbasis) == (5, digest(CRYSTAL), None)
    np.testing.assert_allclose(found.arrays["fock"], wanted.fock[0], atol=1e-10)
    np.testing.assert_allclose(found.arrays["density"], wanted.dm[0], atol=1e-10)
    assert found.entry["energy"] == pytest.approx(wanted.energy, abs=1e-10)
    assert (found.entry["file"], found.entry["frame"]) == ("c.xyz", 2)
    assert (found.fock_builds, found.coarse_builds) == (wanted.ks.fock_builds, wanted.coarse_builds)
    assert found.fock_builds >= 1


def test_blocks_are_of_the_networks_matrix(model):
    found, _ = recorded(model, certificate=False)
    assert found.fock_builds == 0
    assert found.entry["energy"] is None
    names = [name for name in found.arrays if "block" in name or "pairs" in name]
    assert names, sorted(found.arrays)


def test_blocks_that_would_reach_too_far_are_said_and_left_out(model, monkeypatch):
    def far(*_):
        raise ComputationError("expected functions that reach over fewer cells")

    monkeypatch.setattr(crystal_record, "block_arrays", far)
    found, said = recorded(model, certificate=False)
    assert said[-1] == (
        "c.xyz frame 2: expected functions that reach over fewer cells; the prediction has none"
    )
    assert "fock" in found.arrays


@pytest.mark.parametrize("plain", [True, False])
def test_large_crystals_have_sparse_blocks_where_nothing_else_is_asked(model, monkeypatch, plain):
    monkeypatch.setattr(crystal_model, "LARGE", 1)
    asked = {"certificate": False} if plain else {"coupled": False}
    found, said = recorded(model, **asked)
    sparse = any("sparse blocks and no matrices at k-points are written" in text for text in said)
    assert sparse is plain
    assert ("fock" in found.arrays) is not plain
    assert (found.fock_builds == 0) is plain
    if plain:
        dense = model.predict_structure(CRYSTAL, model.settings(), certificate=False)
        levels = dense.ks.bands(dense.fock).mo_energy.flatten()
        assert found.entry["homo"] == pytest.approx(float(levels[0]), abs=1e-3)
        assert found.entry["gap"] == found.entry["lumo"] - found.entry["homo"]
        assert found.entry["converged"] is None


@pytest.mark.parametrize("command", ["predict", "bands", "evaluate"])
def test_what_is_said_of_a_cell_comes_before_the_work(
    command, meta_and_network, tmp_path, monkeypatch, capfd
):
    meta, network = meta_and_network
    save_model(tmp_path, network, meta)
    layer = tmp_path / "layer.xyz"
    lattice = "2.4 0 0 0 2.9 0 0 0 3.0"
    layer.write_text(f'2\nLattice="{lattice}" pbc="T T F"\nH 0 0 0.3\nH 0.6 0.4 0.7\n')
    before = []

    def stop(*_, **__):
        before.append(capfd.readouterr().err)
        raise InputError("stopped here")

    monkeypatch.setattr(CrystalModel, "prepare", stop)
    words = [str(tmp_path), str(layer), "--threads", "1", "-o", str(tmp_path / "out.json")]
    words[-1] = words[-1] if command == "evaluate" else str(tmp_path / "out.h5")
    assert entry_point([command, *words]) == (2 if command == "bands" else 1)
    assert [text.count("the box of the layer") for text in before] == [1]
    after = capfd.readouterr().err
    assert "stopped here" in after
    assert "the box of the layer" not in after


def test_a_record_repeats_nothing_of_its_cell(model):
    lattice = np.diag([4.0, 5.2, 5.5])
    layer = dataclasses.replace(CRYSTAL, lattice=lattice, pbc=(True, True, False))
    said = []
    config = PredictConfig.parse({"certificate": False})
    predict_crystal_record(0, layer, model, config, said.append, naming=Naming())
    assert said == []
