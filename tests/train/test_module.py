"""The training step: what is not finite never reaches the weights, and what is said of it."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from deeph_zero.errors import ComputationError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.host.runtime import setup
from deeph_zero.molecule import Molecule
from deeph_zero.settings.config import FitConfig
from deeph_zero.train import module as module_file
from deeph_zero.train import prepare
from deeph_zero.train.module import MAX_BAD_STEPS, FitModule
from deeph_zero.train.plan import make_plan
from deeph_zero.train.run import Run

TINY = {"basis": "sto-3g", "grid_level": 0}


def water(shift=0.0, frame=0):
    coords = np.array([[0, 0, 0.2], [0, 1.43 + shift, 1.1], [0.1, -1.4, 1.15]])
    return Molecule(numbers=np.array([8, 1, 1]), coords=coords, file="w.xyz", frame=frame)


def settings(method=None, **values):
    runtime = {"device": "cpu", "threads": 1} | values.pop("runtime", {})
    return FitConfig.parse(values | {"method": TINY | (method or {}), "runtime": runtime})


@pytest.fixture
def make_module(tmp_path):
    return lambda loss: build_module(tmp_path, loss)


def build_module(folder, loss):
    config = settings(steps=30, loss=loss)
    run = Run(
        config=config, runtime=setup(config.runtime), reporter=SilentReporter(), out=folder,
        molecules=[water(), water(0.1)],
    )  # fmt: skip
    network = prepare.prepare(run, trained=False)
    module = FitModule(network, run.geometries.problems, make_plan(config, 2))
    assert module.start(calibrate=True)
    return module


def step(module):
    """One optimiser step as the trainer does it."""
    optimizer = module.configure_optimizers()["optimizer"]
    module.log = lambda *_, **__: None
    loss = module.training_step([0, 1], 0)
    if loss is not None:
        loss.backward()
        module.configure_gradient_clipping(optimizer)
        optimizer.step()
    return loss


def spoil(module, where):
    """Make one of the three not finite; returns what puts it right again."""
    if where == "output":
        hook = lambda *a: [c.with_values(c.values * math.nan) for c in a[-1]]  # noqa: E731
        return module.network.register_forward_hook(hook).remove
    if where == "gradient":
        weight = next(module.network.parameters())
        return weight.register_hook(lambda g: g * math.nan).remove
    original = module._loss

    def loss(*args):
        value = original(*args)
        return dataclasses.replace(value, loss=value.loss * math.inf)

    module._loss = loss
    return lambda: setattr(module, "_loss", original)


@pytest.mark.parametrize("loss", ["energy", "fixed-point"])
@pytest.mark.parametrize("where", ["output", "loss", "gradient"])
def test_what_is_not_finite_is_skipped_counted_and_never_reaches_weights(make_module, where, loss):
    module = make_module(loss)
    before = {k: v.clone() for k, v in module.network.state_dict().items()}
    repair = spoil(module, where)
    assert (step(module) is None) is (where != "gradient")
    assert module.skipped_steps == 1
    after = module.network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    repair()
    assert step(module) is not None
    assert module.skipped_steps == 1
    after = module.network.state_dict()
    assert any(not torch.equal(before[k], after[k]) for k in before)
    assert all(torch.isfinite(v).all() for v in after.values())


def test_nothing_but_bad_gradients_gives_up(make_module):
    module = make_module("fixed-point")
    next(module.network.parameters()).register_hook(lambda g: g * math.inf)
    for _ in range(MAX_BAD_STEPS - 1):
        step(module)
    with pytest.raises(ComputationError, match="no finite gradient"):
        step(module)
    assert module.skipped_steps == MAX_BAD_STEPS


def test_what_was_skipped_and_floored_is_said(make_module, caplog, monkeypatch):
    module = make_module("energy")
    repair = spoil(module, "gradient")
    step(module)
    repair()
    monkeypatch.setattr(module_file, "TRAINING_GAP_FLOOR", 1e3)  # every gap counts as closed
    step(module)
    step(module)
    module.on_train_end()
    texts = [r.getMessage() for r in caplog.records]
    assert len([t for t in texts if "gap of the network's H closed" in t]) == 1
    assert len([t for t in texts if t.startswith("1 of 0 training steps had no finite")]) == 1
