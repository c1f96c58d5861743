"""Crystals that calibrate a run: which ones, and what comes of them."""

import json
from types import SimpleNamespace

import pytest
import torch

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.model_files.meta import crystal_meta
from deeph_zero.predict.crystal_intervals import crystal_sample
from deeph_zero.predict.crystal_model import CrystalModel, load_crystal_model
from deeph_zero.predict.intervals import Sample
from deeph_zero.settings.config import FitConfig
from deeph_zero.testing import Listener
from deeph_zero.train import crystal_calibrate as module
from deeph_zero.train.crystal_calibrate import calibrating, frames_kept_out
from deeph_zero.train.crystal_fit import run_crystal_fit
from deeph_zero.train.crystal_samples import geometries

from . import hydrogen_crystal


def _config(**values):
    sections = {
        "method": {"xc": "lda,vwn", "basis": "gth-szv"},
        "crystal": {"kmesh": (1, 1, 1), "pseudo": "gth-lda", "ke_cutoff": 15.0},
        "model": {"size": "tiny", "cutoff": hydrogen_crystal.CUTOFF},
        "runtime": {"threads": 1, "device": "cpu"},
    }
    return FitConfig.parse(sections | values)


def _frames(count):
    return [hydrogen_crystal.crystal(k) for k in range(count)]


def test_copies_that_calibrate_are_none_of_those_trained_on():
    config, frames = _config(samples=4, calibration=21), _frames(2)
    assert frames_kept_out(config, 2) == ()
    found = calibrating(config, frames, ())
    assert [g.molecule.frame for g in found] == [0] * 11 + [1] * 10
    assert {g.frame for g in found} == {None}
    places = {g.molecule.coords.tobytes() for g in (*found, *geometries(config, frames))}
    assert len(places) == 21 + 2 * 5
    assert [g.molecule.coords.tolist() for g in found] == [
        g.molecule.coords.tolist() for g in calibrating(config, frames, ())
    ]


@pytest.mark.parametrize(
    ("frames", "values", "count"),
    [
        (4, {"samples": 30}, 20),  # 124 geometries
        (4, {"samples": 20}, 0),
        (4, {"samples": 30, "calibration": 0}, 0),
        (100, {}, 20),
        (99, {}, 0),
    ],
)
def test_how_many_calibrate_where_nobody_says(frames, values, count):
    config, molecules = _config(**values), _frames(frames)
    kept = frames_kept_out(config, frames)
    found = calibrating(config, molecules, kept)
    assert len(found) == count
    if not config.samples:
        assert [g.frame for g in found] == list(kept)


def test_frames_that_cannot_be_spared_are_refused_with_a_cure():
    with pytest.raises(InputError, match=r"twice as many as it keeps out, got 30 and 19; give mor"):
        frames_kept_out(_config(calibration=19), 30)


def _fit(config, frames, out, reporter):
    out.mkdir()
    return run_crystal_fit(config, frames, [], out, resume=False, reporter=reporter, command="fit")


def _made_up(k):
    names = ("energy", "homo", "lumo", "gap", "fermi", "levels", "bands")
    errors = dict.fromkeys(names, 1e-4)
    return Sample(errors=errors, energy_error=1e-3 * k, gradient=1.0, state=(0, 0), atoms=2)


def test_a_run_ends_calibrated(tmp_path, monkeypatch):
    """Where enough could be refined; its own predictions have intervals, and the model's later."""
    asked = []

    def refined(_, geometry):
        asked.append(geometry.molecule.coords.tobytes())
        if len(asked) == 1:
            raise ComputationError("no convergence")
        return SimpleNamespace(ks=SimpleNamespace(fock_builds=2), coarse_builds=3, k=len(asked))

    monkeypatch.setattr(module, "_refined", refined)
    monkeypatch.setattr(module, "crystal_sample", lambda found: _made_up(found.k))
    config, frames, reporter = _config(samples=1, steps=1, calibration=20), _frames(1), Listener()
    result = _fit(config, frames, tmp_path / "run", reporter)
    assert len(set(asked)) == 20
    assert (result["calibrated"], result["calibration"]["n"], result["geometries"]) == (True, 19, 2)
    assert any("not calibrated with: no convergence" in line for line in reporter.warnings)
    saved = json.loads((tmp_path / "run" / "model.json").read_text())["calibration"]
    assert saved == json.loads(json.dumps(result["calibration"]))
    model = load_crystal_model(tmp_path / "run")
    found = model.predict_structure(frames[0], model.settings())
    (entry,) = result["structures"]
    assert result["fock_builds"] > 2 * 19
    for name, ends in found.intervals.items():
        assert ends == pytest.approx(entry["intervals"][name], abs=1e-9), name
    assert found.out_of_distribution == ()


def test_frames_kept_out_are_not_trained_on(tmp_path, monkeypatch):
    """Too few that could be refined give no intervals, and the summary says why."""

    def refined(_, geometry):
        assert geometry.molecule.frame == 1
        raise ComputationError("no convergence")

    monkeypatch.setattr(module, "_refined", refined)
    monkeypatch.setattr("deeph_zero.train.crystal_fit.frames_kept_out", lambda *_: (1,))
    reporter = Listener()
    result = _fit(_config(steps=1), _frames(3), tmp_path / "run", reporter)
    assert result["geometries"] == 2
    assert [e.get("calibration", False) for e in result["structures"]] == [False, True, False]
    assert not result["calibrated"]
    assert result["not_calibrated"] == "0 of 1 frames could be refined, 19 are needed"
    assert any("give a larger" in line for line in reporter.warnings)
    assert "intervals" not in result["structures"][0]


def test_a_sample_is_predicted_and_refined():
    """What is known of it are errors of the network's own density."""
    config, frames = _config(samples=1, calibration=19), _frames(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = hydrogen_crystal.network().eval()
        for weights in network.node_out.weights:
            torch.nn.init.normal_(weights, std=0.02)
    meta = crystal_meta(config.method, config.crystal, network.spec, frames)
    geometry = calibrating(config, frames, ())[0]
    found = module._refined(CrystalModel(network, meta), geometry)
    assert 3 <= found.ks.fock_builds <= 6
    sample = crystal_sample(found)
    assert 0 < abs(sample.errors["energy"]) < 0.3 * sample.energy_error
    assert 0 < sample.errors["levels"] < sample.errors["bands"]


@pytest.mark.parametrize("validation", [None, 0.5], ids=["chosen by it", "asked for"])
def test_crystals_that_chose_are_learnt_from_unless_they_are_to_measure(
    tmp_path, monkeypatch, validation
):
    settled = []
    fit = "deeph_zero.train.crystal_fit"
    monkeypatch.setattr(f"{fit}.settle_readout", lambda _, found, **__: settled.append(found))
    monkeypatch.setattr(f"{fit}._CrystalFit._certify", lambda *_: None)
    monkeypatch.setattr("deeph_zero.train.crystal_targets.CHECKED", 2)
    monkeypatch.setattr("deeph_zero.train.crystal_targets.CHECKED_FROM", 2)
    config = _config(steps=1, data={"validation": validation})
    result = _fit(config, _frames(2), tmp_path / "run", Listener())
    assert (result["geometries"], result["validation"]["geometries"]) == (1, 1)
    assert [len(found) for found in settled] == ([2] if validation is None else [])
