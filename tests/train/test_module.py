"""The training step: what is not finite never reaches the weights, and what is said of it."""

import dataclasses
import math

import pytest
import torch

from deeph_zero.errors import ComputationError, InputError
from deeph_zero.host.runtime import Deadline
from deeph_zero.ks.counts import Builds
from deeph_zero.train import module as module_file
from deeph_zero.train import prepare
from deeph_zero.train.module import GRADIENT_CLIP, MAX_BAD_STEPS, FitModule
from deeph_zero.train.plan import make_plan

from . import hydrogen as h


@pytest.fixture
def make_module(tmp_path):
    return lambda loss: build_module(tmp_path, loss)


def build_module(folder, loss="fixed-point", **values):
    module = unstarted(folder, loss, **values)
    assert module.start(calibrate=True)
    return module


def unstarted(folder, loss="fixed-point", **values):
    run = h.run(folder, [h.hydrogen(0), h.hydrogen(1)], **{"steps": 30, "loss": loss} | values)
    network = prepare.prepare(run, trained=False)
    return FitModule(network, run.geometries.problems, make_plan(run.config, 2))


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


# ---- before and between steps --------------------------------------------------------------------


def test_the_first_build_of_every_teacher_comes_before_training(tmp_path):
    module = unstarted(tmp_path)
    before = module.fock_builds
    assert module.start(calibrate=True)
    assert all(p.teacher.started for p in module.problems)
    assert module.fock_builds == before + 2
    assert module.build_seconds > 0.0
    scales = module.network.scales
    again = {k: v.clone() for k, v in scales.state_dict().items()}
    plain = h.network().scales.state_dict()
    assert not torch.equal(again["pair_out"], plain["pair_out"])
    assert module.start(calibrate=False), "a trained network keeps its scales"
    assert module.fock_builds == before + 2
    after = scales.state_dict()
    assert all(torch.equal(after[k], v) for k, v in again.items())


def test_time_that_is_up_ends_the_first_builds(tmp_path):
    module = unstarted(tmp_path)
    assert not module.start(calibrate=True, deadline=Deadline(-1.0))
    assert sum(p.teacher.started for p in module.problems) >= 1
    plain = h.network().scales.pair_out
    assert torch.equal(module.network.scales.pair_out, plain)


def test_a_loss_that_only_labels_could_teach_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match=r"^h2\.xyz frame 0: expected a label"):
        unstarted(tmp_path, "supervised").start(calibrate=True)


def test_the_readout_reproduces_the_targets(tmp_path):
    module = build_module(tmp_path)
    module.refit()
    with torch.no_grad():
        corrections = module.network(module._inputs([0, 1]))
    for problem, correction in zip(module.problems, corrections, strict=True):
        error = problem.hamiltonian(correction) - problem.teacher.target
        wanted = problem.teacher.target - problem.fock0
        assert float(error.abs().max()) < 0.05 * float(wanted.abs().max())
    module._measure()
    # nothing is known of what is below the residual of a target that no build confirmed
    assert module.lessons.errors == pytest.approx([p.teacher.residual for p in module.problems])


def test_a_converged_run_is_confirmed_by_builds_at_its_own_densities(tmp_path):
    module = build_module(tmp_path, conv_tol_grad=1e-3)
    module.refit()
    before = module.fock_builds
    assert module._confirm()
    assert module.fock_builds == before + 2
    strict = dataclasses.replace(module.plan, tol=1e-14)
    module.plan = strict
    assert not module._confirm()


def test_progress_without_a_trainer(tmp_path):
    module = unstarted(tmp_path)
    assert module.progress == 0.0
    assert module.remaining == module.plan.epochs
    assert (module.here(), module.share([1])) == ([0, 1], [1])


def test_a_batch_of_all_geometries_is_collated_once(tmp_path):
    module = unstarted(tmp_path)
    assert module._inputs([0, 1]) is module._inputs([0, 1])
    assert module._inputs([1]) is not module._inputs([1])


def test_geometries_that_were_dropped_are_in_no_step(tmp_path):
    module = build_module(tmp_path)
    module.lessons.dropped.update({0: "failed", 1: "failed"})
    with pytest.raises(ComputationError, match="all of them failed"):
        module.training_step([0, 1], 0)
    del module.lessons.dropped[1]
    assert module.training_step([0, 1], 0) is not None


# ---- gradients -----------------------------------------------------------------------------------


def test_a_gradient_is_clipped_to_a_multiple_of_its_running_mean(tmp_path):
    module = unstarted(tmp_path)
    optimizer = module.configure_optimizers()["optimizer"]

    def norm_of(size):
        for parameter in module.network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        next(module.network.parameters()).grad.view(-1)[0] = size
        module.configure_gradient_clipping(optimizer)
        return float(module._flat.vector.grad.norm())

    assert norm_of(2.0) == pytest.approx(2.0)
    assert module._mean_norm == pytest.approx(2.0)
    assert norm_of(1.0) == pytest.approx(1.0)
    assert module._mean_norm == pytest.approx(1.9)
    assert norm_of(1e6) == pytest.approx(GRADIENT_CLIP * 1.9)
    assert module._mean_norm == pytest.approx(0.9 * 1.9 + 0.1 * GRADIENT_CLIP * 1.9)
    assert module.skipped_steps == 0


def test_rates_follow_the_plan(tmp_path):
    module = unstarted(tmp_path)
    found = module.configure_optimizers()
    schedule = found["lr_scheduler"]["scheduler"]
    assert found["lr_scheduler"]["interval"] == "step"
    for step_number in range(4):
        wanted = module.plan.learning_rate * module.plan.rate(step_number)
        assert schedule.get_last_lr() == pytest.approx([wanted])
        found["optimizer"].step()
        schedule.step()


# ---- checkpoints ---------------------------------------------------------------------------------


def test_the_state_of_a_training_comes_back(tmp_path):
    module = build_module(tmp_path, ema=0.9)
    step(module)
    module.average.update()
    module.skipped_steps, module._mean_norm, module.converged = 3, 0.25, True
    kept = {}
    module.on_save_checkpoint(kept)
    assert kept["fit"]["converged_to"] == module.plan.tol
    other = unstarted(tmp_path, ema=0.9)
    before = other.builds
    other.on_load_checkpoint(kept)
    assert (other.skipped_steps, other._mean_norm) == (3, 0.25)
    assert other.lessons.errors == module.lessons.errors
    assert other.earlier_builds == module.builds
    assert other.builds == module.builds + before
    for one, two in zip(module.problems, other.problems, strict=True):
        assert torch.equal(one.teacher.target, two.teacher.target)
    assert torch.equal(*(m.average.state()["mean"][0] for m in (module, other)))


def test_averages_of_single_weights_are_taken_over(tmp_path):
    """As versions before 0.2 wrote them, who counted no builds on coarse grids."""
    module = build_module(tmp_path)
    module.average.update()
    kept = {}
    module.on_save_checkpoint(kept)
    single = [p.detach() + 1.0 for p in module.network.parameters()]
    kept["fit"]["average"]["mean"] = single
    del kept["fit"]["coarse_builds"]
    other = unstarted(tmp_path)
    other.on_load_checkpoint(kept)
    assert other.earlier_builds == Builds(module.fock_builds, 0)
    with other.average.applied():
        for mine, wanted in zip(other.network.parameters(), single, strict=True):
            assert torch.equal(mine, wanted)
