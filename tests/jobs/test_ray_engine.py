"""Frames on a Ray cluster of two processes, started here; workers are killed on the way."""

import dataclasses
import json
import os
import signal
import socket
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from pyscf import gto

from deeph_zero.cli.main import entry_point
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.jobs import ray_engine
from deeph_zero.jobs.journal import Record, digest
from deeph_zero.jobs.label import run_label
from deeph_zero.jobs.ray_engine import ray_outcomes
from deeph_zero.jobs.workers import attempt
from deeph_zero.kohnsham import KohnSham
from deeph_zero.ks.scf.mixing import Mixer
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import model_meta
from deeph_zero.molecule import Molecule
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.settings.config import LabelConfig, MethodConfig

ray = pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of Ray, its threads and its sockets
]
MANY = 600
FRAMES = 6


def hydrogen(frame):
    coords = np.array([[0, 0, 0], [0.1, 0.2, 1.3 + 0.01 * frame]])
    return Molecule(numbers=np.array([1, 1]), coords=coords, file="h2.xyz", frame=frame)


@dataclasses.dataclass(frozen=True)
class Deadly:
    """Kills its process: always at frame 7, once at frame 400, among those sent with it."""

    folder: str

    @property
    def verbose(self):
        return 0

    def start(self, threads):
        assert threads == 1
        return self._compute

    def _compute(self, index, molecule, warn):
        mark = Path(self.folder) / f"died-{index}"
        if index == 7 or (index == 400 and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 11:
            raise InputError("expected another frame; leave it out")
        warn(f"frame {index}")
        return Record(
            index=index,
            digest=digest(molecule),
            arrays={},
            attributes={},
            entry={"frame": molecule.frame},
            auxbasis=None,
            fock_builds=1,
            coarse_builds=0,
        )


def test_structures_of_lost_workers_are_done_again(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine, "_TRIES", 2)
    tasks = ((k, hydrogen(k)) for k in range(MANY))
    found = list(ray_outcomes(Deadly(str(tmp_path)), tasks, engine="ray", threads=1, at_once=2))
    assert (tmp_path / "died-400").exists()
    assert sorted(o.task[0] for o in found) == list(range(MANY))
    failed = {o.task[0]: o.error["error"] for o in found if o.error}
    assert set(failed) == {7, 11}
    assert "workers ended with it" in failed[7]
    assert failed[11] == "expected another frame; leave it out"
    assert all(o.warnings == (f"frame {o.task[0]}",) for o in found if not o.error)


# ---- a cluster that is joined by its address, as one over machines is ----------------------------


@pytest.fixture(scope="module")
def address():
    from ray.cluster_utils import Cluster

    settings = {"num_cpus": 2, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=settings)
    yield cluster.address
    cluster.shutdown()


MARK = "died"


def deadly_chunk(place, job, tasks):
    """In a worker: it is killed in the SCF of frame 2, the first time that one is tried."""

    def kill(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def dying(compute, task):
        if task[0] == 2 and not Path(MARK).exists():
            Path(MARK).touch()
            Mixer.add = kill  # asked for once in every cycle
        return attempt(compute, task)

    ray_engine.attempt = dying
    return ray_engine._compute_chunk(place, job, tasks)  # a worker's own is as it was


def label(out, engine, *, reporter=None, resume=False):
    config = LabelConfig.parse(
        {
            "runtime": {"device": "cpu", "threads": 1},
            "method": {"basis": "sto-3g", "auxbasis": "weigend", "grid_level": 0},
            "engine": engine,
        }
    )
    return run_label(
        config,
        [hydrogen(k) for k in range(FRAMES)],
        [],
        out,
        reporter=reporter or SilentReporter(),
        command="x",
        resume=resume,
    )


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The labels of one process."""
    out = tmp_path_factory.mktemp("local") / "labels.h5"
    label(out, "local")
    return out


def same_labels(one, other):
    entries = [json.loads(path.with_suffix(".json").read_text()) for path in (one, other)]
    assert entries[1]["converged"]
    assert entries[1]["stopped_by"] is None
    assert [e["frame"] for e in entries[1]["structures"]] == list(range(FRAMES))
    for a, b in zip(*(e["structures"] for e in entries), strict=True):
        assert b["energy"] == pytest.approx(a["energy"], abs=1e-12)
    with h5py.File(one) as a, h5py.File(other) as b:
        assert list(a) == list(b)
        for group in a:
            assert a[group].keys() == b[group].keys()
            for name in a[group]:
                np.testing.assert_allclose(b[group][name][()], a[group][name][()], atol=1e-12)


class InterruptedReporter(SilentReporter):
    """Ctrl-C when the first label is there."""

    def task(self, description, total=None):
        task = super().task(description, total)
        told = []

        def advance(n=1, **fields):
            if not told:
                told.append((n, fields))
                os.kill(os.getpid(), signal.SIGINT)

        task.advance = advance
        return task


def test_a_worker_killed_in_an_scf_and_an_interrupt_cost_no_label(
    tmp_path, monkeypatch, request, address, local
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_engine, "_compute_chunk", deadly_chunk)
    here = sys.modules[__name__]  # workers cannot import it: they begin in another folder
    ray.cloudpickle.register_pickle_by_value(here)
    request.addfinalizer(lambda: ray.cloudpickle.unregister_pickle_by_value(here))
    out = tmp_path / "labels.h5"
    with pytest.raises(KeyboardInterrupt):
        label(out, f"ray:{address}", reporter=InterruptedReporter())
    assert (tmp_path / MARK).exists()
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["stopped_by"] == "interrupt"
    assert [e["frame"] for e in told["structures"]] == [0, 1, 2, 3]  # what was out at the time
    label(out, f"ray:{address}", resume=True)
    same_labels(local, out)


def test_an_evaluation_on_a_cluster_is_that_of_one_process(tmp_path, address, local):
    mol = gto.M(atom="H 0 0 0; H 0.1 0.2 1.3", unit="bohr", basis="sto-3g", verbose=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = FockNetwork(default_spec(basis_layout([mol]), "tiny"))
    method = MethodConfig(basis="sto-3g", auxbasis="weigend", grid_level=0)
    info = KohnSham.from_pyscf(mol, grid_level=0, auxbasis="weigend").info
    save_model(tmp_path / "model", network, model_meta(method, info, network.spec))
    told = []
    for engine in ("local", f"ray:{address}"):
        out = tmp_path / "eval.json"
        where = ["-o", str(out), "--device", "cpu", "--threads", "1", "--overwrite", "-q"]
        command = ["evaluate", str(tmp_path / "model"), str(local), "--engine", engine]
        assert entry_point([*command, *where]) == 0
        told.append(json.loads(out.read_text()))
    assert [row["frame"] for row in told[1]["structures"]] == list(range(FRAMES))
    assert told[0]["structures"][3]["scf"]["builds_model"] > 0
    for name in ("structures", "errors", "failed", "fock_builds"):
        assert told[0][name] == told[1][name]


# ---- without a cluster ---------------------------------------------------------------------------


class Pretended:
    """Ray, as far as it is asked before a task is sent."""

    exceptions = ray.exceptions
    token: bool | None = None

    def __init__(self, fails=0, cpus=(5.0, 3.0)):
        self.fails, self.cpus, self.started, self.ended = fails, cpus, [], 0

    def init(self, **settings):
        self.started.append(settings)
        if self.token is not None:
            os.write(2, b"W gcs_client.cc: Authentication token is missing or incorrect\n")
        if len(self.started) <= self.fails:
            raise RuntimeError("The current node timed out during startup.\nMore of it.")

    def shutdown(self):
        self.ended += 1

    def nodes(self):
        gone = {"Alive": False, "Resources": {"CPU": 64.0}}
        return [gone, *({"Alive": True, "Resources": {"CPU": n}} for n in self.cpus)]

    def remote(self, **_):
        return lambda function: function

    def maybe_enable_token_auth_if_token_available(self, **_):
        return self.token


def ready(monkeypatch, pretended, *words):
    monkeypatch.setattr(ray_engine, "_unreachable", lambda _: "")
    monkeypatch.setattr(ray_engine.importlib, "import_module", lambda _: pretended)
    return ray_engine._ray(*words)


def test_a_slow_start_is_tried_again_and_a_missing_cluster_is_not(monkeypatch):
    slow = Pretended(fails=2)
    assert ready(monkeypatch, slow, "ray", 3) is slow
    assert [one["num_cpus"] for one in slow.started] == [3, 3, 3]
    assert slow.ended == 2
    missing = Pretended(fails=9)
    told = r"Ray cluster at host:1, got none \(The current node timed out during startup\.\)"
    with pytest.raises(ComputationError, match=told):
        ready(monkeypatch, missing, "ray:host:1", 3)
    assert [one["address"] for one in missing.started] == ["host:1"]


def test_an_address_where_nothing_answers_is_not_waited_for(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        assert [ray_engine._unreachable(a) for a in ("", "auto", place, f"ray://{place}")] == [
            ""
        ] * 4
    pretended = Pretended()
    monkeypatch.setattr(ray_engine.importlib, "import_module", lambda _: pretended)
    with pytest.raises(ComputationError, match=rf"got none \(nothing answers at {place}: "):
        ray_engine._ray(f"ray:{place}", 1)
    assert pretended.started == []


def test_a_cluster_with_a_token_is_shown_it(monkeypatch, capfd):
    known = Pretended(fails=1)
    known.token = True
    assert ready(monkeypatch, known, "ray:host:1", 3) is known
    assert len(known.started) == 2
    for token, starts in ((False, 1), (True, 2)):  # none here, and not the right one
        unknown = Pretended(fails=9)
        unknown.token = token
        with pytest.raises(ComputationError, match=r"token is missing, see RAY_AUTH_MODE\); see"):
            ready(monkeypatch, unknown, "ray:host:1", 3)
        assert len(unknown.started) == starts
    assert capfd.readouterr().err == ""  # a line per second


@pytest.mark.parametrize(
    ("at_once", "most", "later"), [(None, 6, 10), (2, 2, 2), (3, 6, 3), (9, 6, 10)]
)
def test_no_more_run_at_a_time_than_were_asked_for(tmp_path, at_once, most, later, caplog):
    pretended = Pretended()
    cluster = ray_engine._Cluster(pretended, Deadly(str(tmp_path)), 2, at_once)
    cluster._look()
    assert cluster._most == most
    assert not caplog.text
    pretended.cpus += (4.0,)  # a machine joins
    cluster._look()
    assert cluster._most == later


def test_machines_that_are_too_small_are_not_waited_for_in_silence(tmp_path, caplog):
    cluster = ray_engine._Cluster(Pretended(), Deadly(str(tmp_path)), 6, None)
    cluster._look()
    cluster._look()
    assert caplog.messages == ["no machine of the cluster has 6 CPUs; waiting for one (threads)"]
    assert cluster._most == 2
