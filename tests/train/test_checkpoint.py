import collections
import dataclasses
import json
import math
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import pytorch_lightning as pl
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeph_zero.ao.coupling import wigner_3j
from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.host.runtime import Deadline
from deeph_zero.host.tensor_files import read_pair, write_pair
from deeph_zero.model_files import folder
from deeph_zero.model_files.folder import read_model, save_model
from deeph_zero.train.batches import ResumableBatches
from deeph_zero.train.callbacks import (
    Checkpoints,
    MetricsFile,
    ProgressReport,
    quiet_trainer,
    run_trainer,
)
from deeph_zero.train.lightning_io import KEEP, SafeCheckpointIO
from deeph_zero.train.state_encoding import decode_state, encode_state


@dataclasses.dataclass(frozen=True)
class Spec:
    width: int = 3


class Network(torch.nn.Module):
    def __init__(self, value=0.0):
        super().__init__()
        self.spec = Spec()
        self.weight = torch.nn.Parameter(torch.full((3, 2), value))
        self.register_buffer("scale", torch.tensor(2.0, dtype=torch.float64))


def _write(folder, value=0.0):
    return save_model(folder, Network(value), {"basis": "def2-svp", "elements": [1, 8]})


# ---- state: encode, decode, pairs -----------------------------------------------------------


def _equal(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple | collections.deque):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def test_state_of_every_kind_comes_back_as_what_it_was():
    shared = torch.arange(6.0)
    tree = {
        "a/b": shared[2:],
        "a": {"b": shared.reshape(2, 3).T},
        0: {"step": torch.tensor(3.0), "betas": (0.9, 0.999)},
        "milestones": collections.Counter({10: 1}),
        "queue": collections.deque([1.0, torch.ones(2)], maxlen=4),
        "best": math.inf,
        "nan": math.nan,
        "set": {1, 2},
        "$tensor": "not a tensor",
        "dtype": torch.float64,
        "rng": np.arange(4, dtype=np.uint32),
        "number": np.float64(0.1),
        "empty": [torch.empty(0, 3), {}, [], ()],
        "blob": b"\x00\xff",
        (1, "x"): None,
    }
    document, tensors = encode_state(tree)
    blob = safetensors.torch.save(tensors)
    text = json.dumps(document, allow_nan=False)
    back = decode_state(json.loads(text), safetensors.torch.load(blob))
    assert _equal(tree, back)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@given(TREES)
@settings(deadline=None, max_examples=50)
def test_nested_state_round_trips(tree):
    document, tensors = encode_state(tree)
    assert _equal(tree, decode_state(json.loads(json.dumps(document)), tensors))


def test_an_object_that_needs_pickle_is_refused_with_its_path():
    with pytest.raises(TypeError, match=r"Spec at /optimizer/0"):
        encode_state({"optimizer": [Spec()]})


def test_saved_tensors_do_not_follow_later_steps():
    weight = torch.zeros(2)
    _, tensors = encode_state([weight])
    weight += 1
    assert tensors["/0"].sum() == 0


# ---- model files ------------------------------------------------------------------------------


def test_model_round_trip(tmp_path):
    path = _write(tmp_path / "run", 1.5)
    for given_path in (path, path.parent, str(path)):
        spec, state, meta = read_model(given_path)
        assert spec == {"width": 3}
        assert torch.equal(state["weight"], torch.full((3, 2), 1.5))
        assert state["scale"].dtype == torch.float64
        assert meta["basis"] == "def2-svp"
        assert meta["format_version"] == 1
        assert meta["ao_order"] == "pyscf"
    assert sorted(p.name for p in path.parent.iterdir()) == ["model.json", "model.safetensors"]


def _edit(folder, **changes):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _truncate(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])


def _other_weights(folder):
    _write(folder.parent / "other", 9.0)
    shutil.copy(folder.parent / "other" / "model.safetensors", folder)


def _not_finite(folder):
    tensors = {"weight": torch.tensor([1.0, math.nan])}
    document = json.loads((folder / "model.json").read_text())
    write_pair(folder, "model", tensors, document)


DAMAGE = [
    (shutil.rmtree, r"does not exist"),
    (lambda f: (f / "model.safetensors").unlink(), r"has no model\.safetensors"),
    (lambda f: (f / "model.json").unlink(), r"model\.json cannot be read \(No such file"),
    (lambda f: _truncate(f, 0), r"truncated or not a safetensors file \(0 bytes\)"),
    (lambda f: _truncate(f, 40), r"truncated or not a safetensors file \(40 bytes\)"),
    (lambda f: (f / "model.safetensors").write_text("hello world " * 9), r"not a safetensors"),
    (lambda f: (f / "model.json").write_text("{ nonsense"), r"not valid JSON"),
    (lambda f: (f / "model.json").write_bytes(b"\xff\xfe\x00"), r"not valid JSON"),
    (lambda f: (f / "model.json").write_text("[1, 2]"), r"holds a list"),
    (lambda f: (f / "model.json").write_text("{}"), r"does not say so"),
    (
        lambda f: _edit(f, format_version=7),
        r"written by a newer deeph-zero \(format 7, this one reads 1\); upgrade",
    ),
    (lambda f: _edit(f, format_version="x"), r"format_version from 1 to 1 .* got 'x'"),
    (lambda f: _edit(f, network=None), r"the network's specification"),
    (lambda f: _edit(f, cg_fingerprint="0" * 16), r"Clebsch-Gordan coefficients differ"),
    (lambda f: _edit(f, sha256="0" * 64), r"do not belong together .*SHA-256"),
    (_other_weights, r"do not belong together .*SHA-256"),
    (_not_finite, r"finite weights .* in weight"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_model_is_one_line_saying_what_is_wrong(tmp_path, damage, message):
    folder = tmp_path / "run"
    _write(folder)
    damage(folder)
    with pytest.raises(InputError, match=message) as caught:
        read_model(folder)
    assert "\n" not in str(caught.value)


def test_a_text_file_is_not_a_model(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(InputError, match=r"notes\.txt, which is not one"):
        read_model(path)


def test_a_pickle_under_the_models_name_is_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "boom"),))

    _write(tmp_path / "run")
    torch.save(Bomb(), tmp_path / "run" / "model.safetensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        read_model(tmp_path / "run")
    assert not (tmp_path / "boom").exists()


def test_weights_that_are_not_finite_do_not_replace_a_good_model(tmp_path):
    _write(tmp_path, 1.0)
    with pytest.raises(ComputationError, match=r"finite network weights, got NaN .* weight"):
        save_model(tmp_path, Network(math.nan), {})
    assert read_model(tmp_path)[1]["weight"][0, 0] == 1.0


def test_a_disk_that_refuses_is_one_line_and_keeps_the_model(tmp_path, monkeypatch):
    _write(tmp_path, 1.0)
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(ComputationError, match="No space left on device"):
        _write(tmp_path, 2.0)
    monkeypatch.undo()
    assert read_model(tmp_path)[1]["weight"][0, 0] == 1.0
    assert not list(tmp_path.glob("*.new"))


def _full_disk(_):
    raise OSError(28, "No space left on device")


class _KillError(BaseException):
    pass


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("survived", range(5))
def test_a_kill_between_any_two_file_operations_leaves_a_consistent_pair(
    tmp_path, monkeypatch, first, survived
):
    """Every later moment is covered too: the operations before it were complete."""
    if not first:
        _write(tmp_path, 1.0)
    calls = []

    def limited(function):
        def call(*args, **kwargs):
            if len(calls) == survived:
                raise _KillError
            calls.append(function)
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", limited(os.fsync))
        patch.setattr(pathlib.Path, "replace", limited(pathlib.Path.replace))
        killed = False
        try:
            _write(tmp_path, 2.0)
        except _KillError:
            killed = True
    assert killed == (survived < 4)
    new = survived >= 3  # both written, tensors renamed
    if first and not new:
        with pytest.raises(InputError, match="which has no model"):
            read_model(tmp_path)
    else:
        assert read_model(tmp_path)[1]["weight"][0, 0] == (2.0 if new else 1.0)
    _write(tmp_path, 3.0)  # and the folder stays usable
    assert read_model(tmp_path)[1]["weight"][0, 0] == 3.0


def test_a_kill_while_the_next_save_starts_keeps_the_waiting_pair(tmp_path, monkeypatch):
    _write(tmp_path, 1.0)
    shutil.copytree(tmp_path, tmp_path / "old")
    _write(tmp_path, 2.0)
    (tmp_path / "model.json").replace(tmp_path / "model.json.new")
    shutil.copy(tmp_path / "old" / "model.json", tmp_path / "model.json")
    assert read_model(tmp_path)[1]["weight"][0, 0] == 2.0
    monkeypatch.setattr(os, "fsync", _full_disk)
    with pytest.raises(ComputationError):
        _write(tmp_path, 3.0)
    assert read_model(tmp_path)[1]["weight"][0, 0] == 2.0


def test_fingerprint_is_far_from_every_rounding_boundary():
    values = torch.cat(
        [
            wigner_3j(a, b, c).flatten()
            for a in range(5)
            for b in range(5)
            for c in range(abs(a - b), min(a + b, 8) + 1)
        ]
    )
    distance = ((100 * values.abs()) % 1 - 0.5).abs().min() / 100
    assert distance > 1e-5


def test_fingerprint_notices_a_changed_sign(monkeypatch):
    before = folder.clebsch_gordan_fingerprint()

    def flipped(l1, l2, l3):
        return (-1 if (l1, l2, l3) == (1, 1, 1) else 1) * wigner_3j(l1, l2, l3)

    monkeypatch.setattr(folder, "wigner_3j", flipped)
    assert folder.clebsch_gordan_fingerprint.__wrapped__() != before


# ---- Lightning ---------------------------------------------------------------------------------


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


def test_a_mixed_pair_is_refused(tmp_path):
    write_pair(tmp_path, "state", {"a": torch.ones(2)}, {})
    text = (tmp_path / "state.json").read_text()
    write_pair(tmp_path, "state", {"a": torch.zeros(2)}, {})
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(InputError, match="do not belong together"):
        read_pair(tmp_path, "state", what="checkpoint")


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


# ---- batches ------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 9), st.integers(0, 11))
@settings(deadline=None, max_examples=50)
def test_batches_continue_where_they_stopped(n, size, epoch, stop):
    def epoch_of(batches):
        batches.set_epoch(epoch)
        return list(batches)

    items = list(range(n))
    whole = epoch_of(ResumableBatches(items, size, seed=5))
    assert sorted(k for batch in whole for k in batch) == items
    assert len(whole) == len(ResumableBatches(items, size, seed=5))
    stop %= len(whole)
    first, second = (ResumableBatches(items, size, seed=5) for _ in range(2))
    first.set_epoch(epoch)
    iterator = iter(first)
    start = [next(iterator) for _ in range(stop)]
    second.load_state_dict(first.state_dict())
    assert start + epoch_of(second) == whole
    assert epoch_of(second) == whole


def test_batches_without_items_are_refused():
    with pytest.raises(ValueError, match=re.escape("must be positive, got 1 and 0")):
        ResumableBatches([], 1, seed=0)
