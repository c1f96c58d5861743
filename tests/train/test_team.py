"""Two processes against one with the same global batch: same losses, weights and results."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import tomllib

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.cli.fit import _spread
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.launch import Launch, launch
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.host.runtime import setup
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.settings.config import FitConfig
from deeph_zero.train import prepare
from deeph_zero.train.plan import make_plan
from deeph_zero.train.run import Run
from deeph_zero.train.team import Team
from deeph_zero.train.team_module import TeamModule

SETTINGS = """
[data]
train = ["set.xyz"]
[method]
basis = "sto-3g"
grid_level = 0
[model]
size = "tiny"
dtype = "float64"
[runtime]
device = "cpu"
threads = 1
[training]
learning_rate = 1e-3
epochs = 3
# eleven structures: shares of 6 and 5, batches of 4, 4 and 3
batch_size = 4
devices = {}
"""
TOL = 1e-9
"""Of a weight. The two differ only in the order in which float64 numbers are added, but Adam
divides a gradient by its own size: where contributions cancel to 1e-8 of themselves (4e-11 was seen
after nine steps of 1e-3), rounding is that much larger in a step. Fock matrices are compared below.
"""


def frames(n=11):
    rng = np.random.default_rng(5)
    water = np.array([[0, 0, 0.1], [0, 0.76, 0.58], [0.05, -0.74, 0.61]])
    text = ""
    for _ in range(n):
        xyz = water + 0.06 * rng.standard_normal(water.shape)
        rows = "\n".join(
            f"{s} {x:.8f} {y:.8f} {z:.8f}" for s, (x, y, z) in zip("OHH", xyz, strict=True)
        )
        text += f"3\n\n{rows}\n"
    return text


@pytest.fixture(scope="module")
def both(commands, tmp_path_factory):
    """The run folders of one and of two processes."""
    place = tmp_path_factory.mktemp("team")
    (place / "set.xyz").write_text(frames())
    for devices in (1, 2):
        path = place / f"{devices}.toml"
        path.write_text(SETTINGS.format(devices))
        done = commands.run("train", path, "-o", place / f"run{devices}", "-q")
        assert done.code in (0, 1), done.err
    return place / "run1", place / "run2"


def column(run, name):
    with (run / "metrics.csv").open() as stream:
        return np.array([float(row[name]) for row in csv.DictReader(stream)])


@pytest.mark.slow
def test_the_loss_curve_is_that_of_one_process(both):
    for name in ("step", "epoch", "fock_builds", "skipped_steps"):
        np.testing.assert_array_equal(column(both[0], name), column(both[1], name))
    assert len(column(both[0], "loss")) == 3
    # one process logs in single precision
    for name in ("loss", "residual", "gradient"):
        np.testing.assert_allclose(column(both[0], name), column(both[1], name), rtol=2e-7)


@pytest.mark.slow
def test_the_weights_are_those_of_one_process(both):
    one, two = (load_file(run / "model.safetensors") for run in both)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        # the readout is solved in closed form: its condition amplifies rounding in the weights, not
        # in the Fock matrices, which are compared below
        if weight.numel() and not name.startswith(("node_out.", "pair_out.")):
            scale = max(float(weight.abs().max()), 1.0)
            assert float((weight - two[name]).abs().max()) <= TOL * scale, name


@pytest.mark.slow
def test_the_results_are_complete_and_in_input_order(both):
    one, two = (json.loads((run / "summary.json").read_text()) for run in both)
    assert one["fock_builds"] == two["fock_builds"]
    assert [e["frame"] for e in two["structures"]] == list(range(11))
    for a, b in zip(one["structures"], two["structures"], strict=True):
        assert a["energy"] == pytest.approx(b["energy"], abs=1e-9)
        assert a["dipole"] == pytest.approx(b["dipole"], abs=1e-7)
    with h5py.File(both[0] / "predictions.h5") as a, h5py.File(both[1] / "predictions.h5") as b:
        assert list(a) == list(b)
        for name in a:
            np.testing.assert_array_equal(a[name]["positions"], b[name]["positions"])
            np.testing.assert_allclose(a[name]["fock"], b[name]["fock"], atol=1e-9)
    assert tomllib.loads((both[1] / "config.toml").read_text())["training"]["devices"] == 2


def torchrun(rank, port, *words):
    """One of the two commands, each on a machine of its own as far as an address makes one."""
    where = ["--master-addr", "127.0.0.1", "--master-port", str(port)]
    where += ["--local-addr", f"127.0.0.{rank + 1}", "--nnodes", "2", "--node-rank", str(rank)]
    command = [sys.executable, "-m", "torch.distributed.run", *where, "-m", "deeph_zero", *words]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_torchrun_over_two_addresses_goes_on_as_one_process_does(both, commands, tmp_path):
    """A finished run of two processes, and that of one: an epoch more."""
    words = {}
    for devices, run in zip((1, 2), both, strict=True):
        shutil.copytree(run, tmp_path / run.name)  # the other tests look at the one of three epochs
        path = both[0].parent / f"longer{devices}.toml"
        path.write_text(SETTINGS.format(devices).replace("epochs = 3", "epochs = 4"))
        words[devices] = ("train", path, "-o", tmp_path / run.name, "-q", "--resume")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [torchrun(rank, port, *words[2]) for rank in (0, 1)]
    done = commands.run(*words[1])
    assert done.code in (0, 1), done.err
    assert [one.wait() for one in started] in ([0, 0], [1, 0])  # 1: so few epochs need not converge
    one, two = tmp_path / "run1", tmp_path / "run2"
    assert column(two, "epoch").tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(column(one, "loss"), column(two, "loss"), rtol=2e-7)
    with h5py.File(one / "predictions.h5") as a, h5py.File(two / "predictions.h5") as b:
        assert list(a) == list(b)
        for name in a:
            np.testing.assert_allclose(a[name]["fock"], b[name]["fock"], atol=1e-9)


@pytest.mark.slow
def test_the_first_process_calibrates(commands, tmp_path):
    (tmp_path / "set.xyz").write_text(frames(40))
    text = SETTINGS.format(2).replace("epochs = 3", "epochs = 1\ncalibration = 19")
    (tmp_path / "c.toml").write_text(text)
    done = commands.run("train", tmp_path / "c.toml", "-o", tmp_path / "run", "-q")
    assert done.code in (0, 1), done.err
    told = json.loads((tmp_path / "run" / "summary.json").read_text())
    entries = told["structures"]
    assert [e["frame"] for e in entries] == list(range(40))
    assert sum(bool(e.get("calibration")) for e in entries) == 19
    for entry in entries:  # those of the other process, too
        low, high = entry["intervals"]["energy"]
        assert low < entry["energy_estimate"] < high
    meta = json.loads((tmp_path / "run" / "model.json").read_text())
    assert meta["calibration"] == told["calibration"]


class Alone(Team):
    """A process that is told what the others said, without any of them."""

    def __init__(self, rank, size, others):
        self.rank, self.size, self._others = rank, size, others

    def gather(self, item):
        return [*self._others, item]


class Leader(Alone):
    """Process 0, whose gather returns its own item first."""

    def gather(self, item):
        return [item, *self._others]


def broken(k):
    return {"file": "set.xyz", "frame": k, "error": f"broken {k}"}


@pytest.mark.parametrize("leads", [True, False])
def test_bad_geometries_are_left_out_by_all(tmp_path, monkeypatch, leads):
    """The third geometry fails here, the second one at the other process."""
    rng = np.random.default_rng(0)
    water = np.array([[0, 0, 0.2], [0, 1.43, 1.1], [0.1, -1.4, 1.15]])
    molecules = [
        Molecule(
            numbers=np.array([8, 1, 1]),
            coords=water + 0.1 * rng.standard_normal((3, 3)),
            file="set.xyz",
            frame=k,
        )
        for k in range(4)
    ]
    mine, theirs = (2, 1) if leads else (1, 2)
    other = [({theirs: f"broken {theirs}"}, [broken(theirs)])]
    team = (Leader if leads else Alone)(0 if leads else 1, 2, other)
    real = prepare.make_problem

    def make_problem(molecule, *args, **kwargs):
        if molecule.frame == mine:
            raise ComputationError(f"broken {mine}")
        return real(molecule, *args, **kwargs)

    monkeypatch.setattr(prepare, "make_problem", make_problem)
    method = {"basis": "sto-3g", "grid_level": 0}
    model = {"size": "tiny"}
    config = FitConfig.parse({"method": method, "model": model, "skip_bad": True, "devices": 2})
    runtime = setup(config.runtime)
    run = Run(
        config=config, runtime=runtime, reporter=SilentReporter(), out=tmp_path,
        molecules=molecules, team=team,
    )  # fmt: skip
    network = prepare.prepare(run, trained=False)
    assert sorted(run.geometries.lost) == [1, 2]
    assert [e["frame"] for e in run.results.failed] == ([2, 1] if leads else [1])
    plan = make_plan(config, 9)
    module = TeamModule(network, run.geometries.problems, plan, team)
    module.lessons.dropped.update(run.geometries.lost)
    assert module.here() == ([0] if leads else [3])
    assert module.lessons.members(1.0) == [0, 3]
    strict = FitConfig.parse({"method": method, "model": model, "devices": 2})
    run = Run(
        config=strict, runtime=runtime, reporter=SilentReporter(), out=tmp_path,
        molecules=molecules, team=team,
    )  # fmt: skip
    with pytest.raises(ComputationError, match="broken"):
        prepare.prepare(run, trained=False)


def test_gradients_without_any_process_stay_none(tmp_path):
    team = Team(0, 1, tmp_path)
    weight = torch.nn.Parameter(torch.ones(2))
    team.sum_gradients([weight])
    assert weight.grad is None
    weight.grad = torch.ones(2)
    team.sum_gradients([weight])
    assert weight.grad.tolist() == [1.0, 1.0]
    team.close()


def test_few_geometries_are_refused():
    plan = make_plan(FitConfig(), 3)
    network = FockNetwork(default_spec(BasisLayout.from_shells({1: (0, 0, 1)}), "tiny"))
    with pytest.raises(InputError, match="expected more than 8 geometries for 2 processes, got 0"):
        TeamModule(network, [], plan, Alone(0, 2, []))


def test_what_torchrun_says_is_complete_and_fits(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "0")
    assert launch() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(InputError, match="RANK: expected MASTER_ADDR, MASTER_PORT beside it"):
        launch()
    config = FitConfig.parse({"devices": 3})
    with pytest.raises(InputError, match="devices: expected 2, what torchrun started, got 3"):
        _spread(config, Launch(0, 2, 1))
    assert _spread(FitConfig.parse({}), Launch(0, 2, 1)).devices == 2
    with pytest.raises(InputError, match="--workers: expected 0 with devices"):
        _spread(FitConfig.parse({"workers": 1}), Launch(0, 2, 1))
