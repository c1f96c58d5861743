"""Event files for TensorBoard: the numbers of ``metrics.csv``, and nothing where it is absent."""

import csv
import importlib.util
import sys
import types
from typing import ClassVar

import pytest

from deeph_zero.settings.config import FitConfig
from deeph_zero.testing import Listener, distorted_waters
from deeph_zero.train import event_files
from deeph_zero.train.fit import run_fit

HAS_TENSORBOARD = importlib.util.find_spec("tensorboard") is not None


class Writer:
    """Stands for ``SummaryWriter``."""

    made: ClassVar[list["Writer"]] = []

    def __init__(self, folder, purge_step):
        self.folder, self.purge_step, self.points, self.open = folder, purge_step, [], True
        self.made.append(self)

    def add_scalar(self, name, value, step):
        self.points.append((name, value, step))

    def flush(self):
        pass

    def close(self):
        self.open = False


class FullDisk(Writer):
    """The same on a disk that takes nothing more."""

    def flush(self):
        raise OSError(28, "No space left on device")


@pytest.fixture
def installed(monkeypatch):
    """TensorBoard as far as a run sees it, with a writer of choice."""

    def install(writer):
        Writer.made.clear()
        module = types.ModuleType("torch.utils.tensorboard")
        module.SummaryWriter = writer
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
        monkeypatch.setattr(event_files, "_installed", lambda: True)

    return install


def fit(out, epochs, *, resume=False):
    out.mkdir(exist_ok=True)
    method, runtime = {"basis": "sto-3g", "grid_level": 0}, {"threads": 1, "device": "cpu"}
    config = FitConfig.parse(
        {"method": method, "runtime": runtime, "model": {"size": "tiny"}, "epochs": epochs}
    )
    told = {"reporter": Listener(), "command": "deeph-zero fit w.xyz"}
    return run_fit(config, distorted_waters(9), [], out, resume=resume, **told)


def rows(out):
    return list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))


def test_curves_are_the_metrics_and_go_on_after_a_resume(tmp_path, installed):
    installed(Writer)
    fit(tmp_path / "run", 2)
    fit(tmp_path / "run", 4, resume=True)
    first, second = Writer.made
    assert first.folder == second.folder == str(tmp_path / "run" / "tensorboard")
    assert first.purge_step is None
    assert second.purge_step == first.points[-1][2] + 1
    assert not first.open
    assert not second.open
    wanted = [(float(r["loss"]), int(r["step"])) for r in rows(tmp_path / "run")]
    points = [*first.points, *second.points]
    assert [(value, step) for name, value, step in points if name == "loss"] == wanted
    assert {name for name, *_ in points} >= {"residual", "energy_error", "fock_builds"}


def test_a_full_disk_ends_the_curves_and_not_the_run(tmp_path, installed, caplog):
    installed(FullDisk)
    assert fit(tmp_path / "run", 3)["stopped_by"] == "epochs"
    assert len(rows(tmp_path / "run")) == 3
    said = [r.getMessage() for r in caplog.records if "TensorBoard" in r.getMessage()]
    assert said == ["curves for TensorBoard end here (No space left on device)"]


def test_nothing_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(event_files, "_installed", lambda: False)
    fit(tmp_path / "run", 1)
    assert not (tmp_path / "run" / "tensorboard").exists()


@pytest.mark.skipif(not HAS_TENSORBOARD, reason="tensorboard is not installed")
def test_tensorboard_reads_them(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tmp_path / "run", 2)
    found = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    losses = [event.value for event in found.Scalars("loss")]
    assert losses == pytest.approx([float(r["loss"]) for r in rows(tmp_path / "run")], rel=1e-6)
