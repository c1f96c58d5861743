"""Frames on a Ray cluster of two processes, started here; one of them is killed on the way."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest

from deeph_zero.errors import InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.jobs.journal import Record, digest
from deeph_zero.jobs.label import run_label
from deeph_zero.jobs.ray_engine import ray_outcomes
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import LabelConfig

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of Ray, its threads and its sockets
]
FRAMES = 10_000


def hydrogen(frame):
    coords = np.array([[0, 0, 0], [0.1, 0.2, 1.3 + 0.01 * frame]])
    return Molecule(numbers=np.array([1, 1]), coords=coords, file="h2.xyz", frame=frame)


@dataclasses.dataclass(frozen=True)
class Deadly:
    """Kills its process at some frames: once where a file can be made, always at frame 7."""

    folder: str

    @property
    def verbose(self):
        return 0

    def start(self, threads):
        assert threads == 1
        return self._compute

    def _compute(self, index, molecule, warn):
        mark = Path(self.folder) / f"died-{index}"
        if index == 7 or (index in (0, 20, 6000) and not mark.exists()):
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


def test_structures_of_lost_workers_are_done_again(tmp_path):
    tasks = ((k, hydrogen(k)) for k in range(FRAMES))
    found = list(ray_outcomes(Deadly(str(tmp_path)), tasks, engine="ray", threads=1, at_once=2))
    assert sorted(o.task[0] for o in found) == list(range(FRAMES))
    failed = {o.task[0]: o.error["error"] for o in found if o.error}
    assert set(failed) == {7, 11}
    assert "workers ended with it" in failed[7]
    assert failed[11] == "expected another frame; leave it out"
    assert all(o.warnings == (f"frame {o.task[0]}",) for o in found if not o.error)


def test_labels_of_a_cluster_are_those_of_one_process(tmp_path):
    molecules = [hydrogen(k) for k in range(5)]
    settings = {
        "runtime": {"device": "cpu", "threads": 1},
        "method": {"basis": "sto-3g", "auxbasis": "weigend", "grid_level": 0},
    }
    for name in ("local", "ray"):
        config = LabelConfig.parse(
            settings | {"engine": name, "workers": 2 if name == "ray" else 1}
        )
        summary = run_label(
            config, molecules, [], tmp_path / f"{name}.h5", reporter=SilentReporter(), command="x"
        )
        assert summary["converged"]
        assert [s["frame"] for s in summary["structures"]] == list(range(5))
    with h5py.File(tmp_path / "local.h5") as one, h5py.File(tmp_path / "ray.h5") as other:
        assert list(one) == list(other)
        for group in one:
            assert abs(one[group]["fock"][()] - other[group]["fock"][()]).max() < 1e-12
    facts = json.loads((tmp_path / "ray.json").read_text())
    assert facts["n_structures"] == 5
