"""Training that is stopped in every way goes on to the same bits: checkpoints, metrics, signals."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import pytorch_lightning as pl
import torch

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.host.runtime import Deadline
from deeph_zero.train.batches import ResumableBatches
from deeph_zero.train.callbacks import (
    Checkpoints,
    MetricsFile,
    ProgressReport,
    quiet_trainer,
    run_trainer,
)
from deeph_zero.train.lightning_io import KEEP, SafeCheckpointIO


class Toy(pl.LightningModule):
    def __init__(self, hook=None):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.layer = torch.nn.Linear(4, 4, dtype=torch.float64)
        with torch.no_grad():
            for p in self.layer.parameters():
                p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
        self.hook, self.seen = hook, []

    def training_step(self, batch):
        x = torch.stack(batch)
        self.seen.append(x[0, 0].item())
        if self.hook is not None:
            self.hook(self)
        loss = (self.layer(x) - x).pow(2).mean()
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(batch))
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def _train(out, *, epochs=10, every=0.0, deadline=None, hook=None):
    """Train in ``out``, continuing what is there; returns the module and why it stopped."""
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(2)
    data = torch.randn(10, 4, generator=generator, dtype=torch.float64)
    batches = ResumableBatches(list(data), 4, seed=3)
    checkpoints = Checkpoints(out / KEEP, deadline=deadline, every_seconds=every)
    callbacks = [
        checkpoints,
        MetricsFile(out / "metrics.csv"),
        ProgressReport(SilentReporter(), "training", shown=("loss",)),
    ]
    trainer = quiet_trainer(callbacks, max_epochs=epochs, accelerator="cpu", devices=1)
    module = Toy(hook)
    resume = out / KEEP if (out / KEEP).exists() else None
    return module, run_trainer(trainer, module, batches, checkpoints, resume_from=resume)


def _rows(out):
    lines = (out / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    module, stopped_by = _train(out)
    assert stopped_by is None
    return module, _rows(out)


def _same(module, uninterrupted):
    assert torch.equal(module.layer.weight, uninterrupted[0].layer.weight)
    assert torch.equal(module.layer.bias, uninterrupted[0].layer.bias)


def _same_rows(out, uninterrupted, cut):
    """The epoch that was cut has a mean over its second part; everything else is the same."""
    rows, expected = _rows(out), [dict(row) for row in uninterrupted[1]]
    if cut is not None:
        assert rows[cut]["loss"] != expected[cut]["loss"]
        rows[cut]["loss"] = expected[cut]["loss"]
    assert rows == expected


def test_training_does_something_and_every_epoch_has_a_row(uninterrupted):
    module, rows = uninterrupted
    assert len(module.seen) == 30
    assert [int(row["step"]) for row in rows] == list(range(3, 31, 3))
    assert [int(row["epoch"]) for row in rows] == list(range(10))
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])


def test_resume_after_whole_epochs_is_bitwise_the_uninterrupted_run(tmp_path, uninterrupted):
    _train(tmp_path, epochs=4)
    module, _ = _train(tmp_path)
    assert len(module.seen) == 18
    _same(module, uninterrupted)
    assert _rows(tmp_path) == uninterrupted[1]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 5, 6, 7])
def test_a_signal_finishes_the_step_saves_and_resumes_bitwise(
    tmp_path, uninterrupted, step, signum
):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def press(module):
        if len(module.seen) == step:
            os.kill(os.getpid(), signum)

    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, hook=press, every=1e9)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    module, _ = _train(tmp_path)
    assert len(module.seen) == 30 - step
    _same(module, uninterrupted)
    _same_rows(tmp_path, uninterrupted, cut=(step - 1) // 3 if step % 3 else None)


def test_a_second_ctrl_c_stops_at_once_with_the_last_checkpoint(tmp_path, uninterrupted):
    before = signal.getsignal(signal.SIGINT)

    def press(module):
        if len(module.seen) == 8:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            survived.append(True)

    survived = []
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path, hook=press)
    assert survived == []
    assert signal.getsignal(signal.SIGINT) == before
    module, _ = _train(tmp_path)
    assert len(module.seen) == 24
    _same(module, uninterrupted)


@pytest.mark.parametrize("steps", [1, 6, 8])
def test_the_deadline_stops_with_a_checkpoint(tmp_path, monkeypatch, uninterrupted, steps):
    clock = [0.0]
    monkeypatch.setattr("deeph_zero.host.runtime.time.monotonic", lambda: clock[0])

    def tick(_module):
        clock[0] += 1.0

    _, stopped_by = _train(tmp_path, hook=tick, deadline=Deadline(steps - 0.5))
    assert stopped_by == "max_time"
    module, stopped_by = _train(tmp_path)
    assert stopped_by is None
    assert len(module.seen) == 30 - steps
    _same(module, uninterrupted)
    _same_rows(tmp_path, uninterrupted, cut=(steps - 1) // 3 if steps % 3 else None)


def test_an_error_in_a_step_comes_through(tmp_path):
    def fail(_):
        raise ComputationError("nan loss")

    with pytest.raises(ComputationError, match="nan loss"):
        _train(tmp_path, hook=fail)


def test_training_is_silent_and_leaves_only_our_files(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    _train(tmp_path / "run", epochs=2)
    assert capfd.readouterr() == ("", "")
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert files == [
        "run/checkpoints/last.ckpt/state.json",
        "run/checkpoints/last.ckpt/state.safetensors",
        "run/metrics.csv",
    ]


def test_checkpoints_are_not_written_more_often_than_asked(tmp_path, monkeypatch):
    saves = []
    monkeypatch.setattr(SafeCheckpointIO, "save_checkpoint", lambda *a, **_: saves.append(a))
    _train(tmp_path, every=1e9)
    assert len(saves) == 1
    saves.clear()
    _train(tmp_path / "b", every=0.0)
    assert len(saves) == 10


def test_a_per_epoch_scheduler_is_refused(tmp_path):
    checkpoints = Checkpoints(tmp_path / KEEP)
    trainer = quiet_trainer([checkpoints], max_epochs=1, accelerator="cpu", devices=1)
    module = Toy()
    original = module.configure_optimizers

    def per_epoch():
        settings = original()
        settings["lr_scheduler"]["interval"] = "epoch"
        return settings

    module.configure_optimizers = per_epoch
    with pytest.raises(ValueError, match="interval must be 'step', got 'epoch'"):
        run_trainer(trainer, module, ResumableBatches([torch.ones(4)], 1, seed=0), checkpoints)


def test_half_a_metrics_row_is_dropped_on_resume(tmp_path, uninterrupted):
    _train(tmp_path, epochs=4)
    with (tmp_path / "metrics.csv").open("a") as stream:
        stream.write("15,4,0.5,0.7\n18,5,0.")
    _train(tmp_path)
    assert _rows(tmp_path) == uninterrupted[1]


def test_a_checkpoint_that_is_not_one_is_one_line(tmp_path):
    folder = tmp_path / KEEP
    folder.mkdir(parents=True)
    (folder / "state.safetensors").write_text("x")
    (folder / "state.json").write_text("{}")
    with pytest.raises(InputError, match="deeph-zero checkpoint"):
        _train(tmp_path)


# ---- kill -9 ------------------------------------------------------------------------------------

NURSERY = """
import importlib.util, os, pathlib, sys
spec = importlib.util.spec_from_file_location("toy", sys.argv[1])
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)  # once: importing takes much longer than training
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        toy._train_until_killed(pathlib.Path(sys.argv[2]), int(line))
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
"""


def _train_until_killed(out, step):
    """Kill -9 by another thread some time after a step: nothing in the training waits for it."""

    def hook(module):
        if len(module.seen) == step:
            threading.Timer(0.003, os.kill, (os.getpid(), signal.SIGKILL)).start()

    _train(out, hook=hook)
    threading.Event().wait()


@pytest.mark.slow
def test_resume_after_kill_9_is_bitwise_the_uninterrupted_run(tmp_path, uninterrupted):
    """Killed at an unpredictable moment of frequent saving; whatever is left must be usable."""
    command = [sys.executable, "-c", NURSERY, __file__, str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as nursery:
        for step in (5, 7, 4):
            nursery.stdin.write(f"{step}\n")
            nursery.stdin.flush()
            assert int(nursery.stdout.readline()) == signal.SIGKILL
    module, _ = _train(tmp_path)
    _same(module, uninterrupted)
    assert _rows(tmp_path) == uninterrupted[1]
