"""Frames kept out of a run calibrate it: which ones, and what comes of them."""

import json

import numpy as np
import pytest

from deeph_zero import load
from deeph_zero.errors import InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.molecule import Molecule
from deeph_zero.predict.intervals import REFINE_TOL
from deeph_zero.settings.config import FitConfig
from deeph_zero.testing import Listener
from deeph_zero.train.calibrate import held_out
from deeph_zero.train.fit import run_fit

METHOD = {"basis": "6-31g", "auxbasis": "weigend", "grid_level": 0}


def _config(**settings):
    runtime = {"device": "cpu", "threads": 1, "seed": 5}
    values = {"method": METHOD, "runtime": runtime, "model": {"size": "tiny"}, "steps": 3}
    return FitConfig.parse(values | settings)


def _frames(count):
    rng = np.random.default_rng(3)
    return [
        Molecule(
            numbers=np.array([1, 9]),
            coords=np.array([[0, 0, 0], [0.1, 0.2, 1.75 + 0.1 * rng.normal()]]),
            file="hf.xyz",
            frame=k,
        )
        for k in range(count)
    ]


def _fit(config, frames, out, reporter=None):
    out.mkdir(exist_ok=True)
    return run_fit(
        config, frames, [], out, resume=False, reporter=reporter or SilentReporter(), command="fit"
    )


@pytest.mark.parametrize(("count", "asked"), [(100, None), (40, 19), (1000, 50), (38, 19)])
def test_frames_are_kept_out_in_blocks(count, asked):
    kept = held_out(_config(calibration=asked), count)
    assert len(set(kept)) == len(kept) == (20 if asked is None else asked)
    assert list(kept) == sorted(kept)
    assert kept[0] >= 0
    assert kept[-1] < count
    starts = [k for k in kept if k - 1 not in kept]
    assert 4 <= len(starts) <= len(kept) // 4


def test_small_runs_and_zero_keep_nothing_out():
    assert held_out(_config(), 99) == ()
    assert held_out(_config(calibration=0), 500) == ()
    with pytest.raises(InputError, match="at most half of the 30 frames, got 19"):
        held_out(_config(calibration=19), 30)
    with pytest.raises(InputError, match="19 or more"):
        _config(calibration=5)


def test_a_run_ends_calibrated(tmp_path):
    frames = _frames(40)
    result = _fit(_config(calibration=19), frames, tmp_path / "run")
    kept = [e["frame"] for e in result["structures"] if e.get("calibration")]
    assert kept == list(held_out(_config(calibration=19), 40))
    assert [e["frame"] for e in result["structures"]] == list(range(40))
    assert result["calibration"]["n"] == 19
    assert result["calibration"]["guaranteed_coverage"] == pytest.approx([0.95, 1.0])
    saved = json.loads((tmp_path / "run" / "model.json").read_text())
    assert saved["calibration"] == json.loads(json.dumps(result["calibration"]))
    model = load(tmp_path / "run")
    inside = 0
    for k in kept:  # the quantile of 19 is their largest score: all of them are inside
        # the worst one lies on the edge: the same refinement, and room for rounding
        found = model.predict(frames[k], refine=REFINE_TOL)
        low, high = found.intervals["energy"]
        assert [low, high] == pytest.approx(result["structures"][k]["intervals"]["energy"])
        homo = float(found.refined.mo_energy[4])
        inside += low - 1e-10 <= found.refined.energy <= high + 1e-10
        lowest, highest = found.intervals["homo"]
        inside += lowest - 1e-10 <= homo <= highest + 1e-10
    assert inside == 2 * len(kept)
    entry = result["structures"][0]
    assert set(entry["intervals"]) == {"energy", "homo", "lumo", "gap", "dipole"}
    assert "refined_energy" not in entry


def test_frames_kept_out_are_not_trained_on(tmp_path):
    frames = _frames(38)
    config = _config(calibration=19)
    kept = set(held_out(config, 38))
    first = _fit(config, frames, tmp_path / "first")
    moved = [
        Molecule(
            numbers=m.numbers, coords=m.coords * (1.02 if k in kept else 1.0), frame=k, file=m.file
        )
        for k, m in enumerate(frames)
    ]
    second = _fit(config, moved, tmp_path / "second")
    for k, (a, b) in enumerate(zip(first["structures"], second["structures"], strict=True)):
        assert (a["energy"] == b["energy"]) == (k not in kept)


def test_too_few_usable_frames_are_said_and_give_no_intervals(tmp_path, monkeypatch):
    listener = Listener()
    monkeypatch.setattr("deeph_zero.train.calibrate._is_usable", lambda _: False)
    result = _fit(_config(calibration=19), _frames(38), tmp_path / "run", listener)
    assert any("19 are needed: no intervals" in text for text in listener.warnings)
    assert "calibration" not in result
    assert all("intervals" not in entry for entry in result["structures"])
    assert load(tmp_path / "run").calibration is None
