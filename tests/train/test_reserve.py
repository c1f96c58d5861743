"""What `fit` keeps back of --max-time, on a clock that only the work moves."""

import json

import numpy as np
import pytest

from deeph_zero import load
from deeph_zero.host import runtime
from deeph_zero.host.runtime import Deadline
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig
from deeph_zero.testing import Listener
from deeph_zero.train import finish, prepare
from deeph_zero.train.fit import run_fit
from deeph_zero.train.module import FitModule
from deeph_zero.train.reserve import FILES, MARGIN, Costs, Ending, TrainingDeadline

METHOD = {"basis": "sto-3g", "auxbasis": "weigend", "grid_level": 0}
FRAMES, KEPT = 40, 19
SECONDS = {"integrals": 1.0, "step": 10.0, "certificate": 3.0, "reference": 5.0}


@pytest.fixture
def clock(monkeypatch):
    """Every piece of work takes its time of SECONDS; nothing else takes any."""
    now = [0.0]
    monkeypatch.setattr(runtime, "now", lambda: now[0])

    def slow(owner, name, kind):
        original = getattr(owner, name)

        def wrapped(*args, **kwargs):
            now[0] += SECONDS[kind]
            counted[kind] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapped)

    counted = dict.fromkeys(SECONDS, 0)
    slow(prepare, "make_problem", "integrals")
    slow(FitModule, "training_step", "step")
    slow(finish.single, "assemble", "certificate")
    slow(finish.single, "refine_best", "reference")
    return now, counted


def fit(tmp_path, max_time, **more):
    rng = np.random.default_rng(3)
    frames = [
        Molecule(
            numbers=np.array([1, 9]),
            coords=np.array([[0, 0, 0], [0.1, 0.2, 1.75 + 0.1 * rng.normal()]]),
            file="hf.xyz",
            frame=k,
        )
        for k in range(FRAMES)
    ]
    settings = {
        "method": METHOD,
        "runtime": {"device": "cpu", "threads": 1, "seed": 5, "max_time": max_time},
        "model": {"size": "tiny"},
        "calibration": KEPT,
        "epochs": 100,
    }
    out, listener = tmp_path / "run", Listener()
    out.mkdir()
    result = run_fit(
        FitConfig.parse(settings | more),
        frames,
        [],
        out,
        resume=False,
        reporter=listener,
        command="fit",
    )
    assert json.loads(json.dumps(result)) == json.loads((out / "summary.json").read_text())
    return result, listener, out


def test_a_limited_run_ends_in_time_calibrated_and_certified(tmp_path, clock):
    now, counted = clock
    result, _, out = fit(tmp_path, 500.0)
    assert result["stopped_by"] == "max_time"
    assert counted["step"] > 10, "what is not kept back is trained"
    assert now[0] <= 500.0
    assert result["calibrated"] is True
    assert result["calibration"]["n"] == KEPT
    assert load(out).calibration is not None
    assert all(e["energy"] is not None and e["intervals"] for e in result["structures"])
    assert "left_out" not in result


def test_what_does_not_fit_is_said_and_the_calibration_comes_first(tmp_path, clock, monkeypatch):
    now, counted = clock
    monkeypatch.setitem(SECONDS, "certificate", 30.0)
    result, listener, _ = fit(tmp_path, 1800.0)
    assert now[0] <= 1800.0
    assert counted["step"] > 10, "training keeps its half"
    assert result["calibrated"] is True
    missing = [e for e in result["structures"] if e["energy"] is None]
    assert 0 < len(missing) < FRAMES - KEPT
    assert result["left_out"] == [f"certificates of {len(missing)} of {FRAMES} structures"]
    said = [text for text in listener.warnings if "the time limit left out" in text]
    assert len(said) == 1
    assert result["left_out"][0] in said[0]


def test_a_calibration_that_cannot_fit_is_given_up_in_words(tmp_path, clock, monkeypatch):
    now, counted = clock
    monkeypatch.setitem(SECONDS, "reference", 100.0)
    result, listener, out = fit(tmp_path, 500.0)
    assert now[0] <= 500.0
    assert counted["step"] > 10
    assert result["calibrated"] is False
    assert "time limit" in result["not_calibrated"]
    assert load(out).calibration is None
    assert any("calibration" in text for text in result["left_out"])
    assert sum("the time limit left out" in text for text in listener.warnings) == 1


def test_a_run_without_frames_kept_out_says_so(tmp_path):
    result, _, _ = fit(tmp_path, 600.0, calibration=0, epochs=1)
    assert result["calibrated"] is False
    assert "calibration says how many" in result["not_calibrated"]


def test_reserve_follows_what_is_measured(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(runtime, "now", lambda: now[0])
    costs, ending = Costs(), Ending(certificates=10, references=4, passes=0, steps_per_pass=1)
    costs.add("build", 1.0)
    deadline = TrainingDeadline(Deadline(1000.0), costs, ending)
    guess = MARGIN * (FILES + 4 * 12 + 10 * 3)
    assert deadline.reserve() == pytest.approx(guess)
    with costs.measured("certificate"):
        now[0] += 5.0
    with costs.measured("certificate"):
        now[0] += 7.0
    assert deadline.reserve() == pytest.approx(MARGIN * (FILES + 4 * 12 + 10 * 6))
    now[0] = 1000.0 - deadline.reserve() - 0.01
    assert not deadline.expired()
    now[0] += 0.02
    assert deadline.expired()
    assert not TrainingDeadline(Deadline(), costs, ending).expired()


def test_training_keeps_half_and_the_calibration_what_it_needs(monkeypatch):
    monkeypatch.setattr(runtime, "now", lambda: 0.0)
    costs = Costs()
    costs.add("certificate", 100.0)
    costs.add("reference", 1.0)
    whole = Deadline(100.0)
    many = Ending(certificates=1000, references=20, passes=0, steps_per_pass=1)
    assert TrainingDeadline(whole, costs, many).reserve() == pytest.approx(50.0)
    more = Ending(certificates=1000, references=60, passes=0, steps_per_pass=1)
    assert TrainingDeadline(whole, costs, more).reserve() == pytest.approx(MARGIN * (FILES + 60))
    all_ = Ending(certificates=1000, references=600, passes=0, steps_per_pass=1)
    assert TrainingDeadline(whole, costs, all_).reserve() == pytest.approx(50.0)
