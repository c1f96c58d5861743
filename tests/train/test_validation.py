"""Structures that measure: kept out, right errors, and the best weights at the end."""

import csv

import h5py
import numpy as np
import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.reading import Reading
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import basis_layout, build_mole, kohn_sham
from deeph_zero.settings.config import FitConfig, MethodConfig
from deeph_zero.testing import distorted_waters
from deeph_zero.train.fit import run_fit
from deeph_zero.train.state_encoding import decode_state, encode_state
from deeph_zero.train.taught import make_problem
from deeph_zero.train.validation import Best, ValidationCheck, check_positions, converge

CONFIG = MethodConfig(basis="sto-3g", grid_level=0)
METHOD = CONFIG.as_method()


def fit(out, frames, *, held_out=None, file=()):
    config = FitConfig.parse({"method": CONFIG, "epochs": 3, "data": {"validation": held_out}})
    return run_fit(
        config,
        frames,
        [],
        out,
        resume=False,
        reporter=SilentReporter(),
        command="fit",
        validation=file,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    return out, fit(out, distorted_waters(12), held_out=0.1)


def rows(out):
    with (out / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_frames_are_kept_out_and_reported(run):
    _, told = run
    measured = [e["frame"] for e in told["structures"] if e.get("validation")]
    assert len(measured) == told["validation"]["n_structures"] == 1
    assert len(told["structures"]) == 12
    assert all(e["energy"] is not None for e in told["structures"])


def test_every_epoch_has_errors(run):
    out, told = run
    found = rows(out)
    assert len(found) == 3
    for row in found:
        assert 0 < float(row["val_residual"]) < 1
        assert float(row["val_loss"]) > 1e3 * float(row["val_residual"])
    assert told["validation"]["loss"] <= min(float(row["val_loss"]) for row in found)


def test_error_is_that_against_an_scf(run):
    """The root mean square of H - F, with H from the file and F from this package's SCF."""
    out, told = run
    (k,) = [k for k, e in enumerate(told["structures"]) if e.get("validation")]
    with h5py.File(out / "predictions.h5") as file:
        hamiltonian = torch.from_numpy(file[f"{k:04d}/fock"][()])
    fock = kohn_sham(distorted_waters(12)[k], METHOD).scf(conv_tol=1e-12).fock
    wanted = float((hamiltonian - fock).square().mean().sqrt())
    assert told["validation"]["residual"] == pytest.approx(wanted, rel=1e-4)


def test_structures_of_a_file_are_no_part_of_the_result(tmp_path):
    frames = distorted_waters(12)
    told = fit(tmp_path, frames[:9], file=frames[9:])
    assert told["validation"]["n_structures"] == 3
    assert len(told["structures"]) == 9
    assert not any("validation" in e for e in told["structures"])


def test_the_better_weights_win():
    frames = distorted_waters(2)
    layout = basis_layout([build_mole(m, basis=METHOD.basis) for m in frames])
    problems = [make_problem(m, METHOD, Reading(layout, cutoff=14.0)) for m in frames]
    for problem in problems:
        converge(problem)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FockNetwork(default_spec(layout, "tiny"))
    check = ValidationCheck(problems, 10)
    now = check.choose(network)  # an untrained network: H = F0
    error = [p.teacher.target - p.fock0 for p in problems]
    rms = np.mean([float(x.square().mean().sqrt()) for x in error])
    assert now["residual"] == pytest.approx(rms, rel=1e-6)
    assert now["epoch"] is None
    before = [w.detach().clone() for w in network.parameters()]
    worse = {name: 2 * now[name] for name in ("loss", "residual", "gradient", "energy_error")}
    check.best = Best(4, worse, [w + 1 for w in before])
    assert check.choose(network)["epoch"] is None
    better = {name: value / 4 for name, value in worse.items()}
    check.best = Best(5, better, [w + 2 for w in before])
    again = ValidationCheck(problems, 10)
    again.load_state_dict(decode_state(*encode_state(check.state_dict())))
    assert again.choose(network) == better | {"epoch": 5, "n_structures": 2}
    assert all(torch.equal(w, b + 2) for w, b in zip(network.parameters(), before, strict=True))


@pytest.mark.parametrize(("fraction", "taken"), [(0.1, ()), (0.25, (0, 1, 5)), (0.001, (3,))])
def test_positions_are_spread_and_free(fraction, taken):
    found = check_positions(fraction, 40, taken)
    assert len(set(found)) == max(1, round(fraction * 40))
    assert not set(found) & set(taken)
    assert found == tuple(sorted(found))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"data": {"validation": 0.9}}, "at most 0.5"),
        ({"data": {"validation": "-1"}}, "above 0"),
        ({"data": {"validation": 0.1}, "devices": 2}, "training.devices = 1"),
    ],
)
def test_refused(values, words):
    with pytest.raises(InputError, match=words):
        FitConfig.parse(values)
