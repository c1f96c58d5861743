"""What settings mean for so many geometries: schedule, rate, budget, closed form."""

import itertools

import pytest

from deeph_zero.settings.config import FitConfig
from deeph_zero.train.budget import Budget
from deeph_zero.train.losses import MatchWeights
from deeph_zero.train.plan import make_plan, resolved


def test_who_gets_which_budget():
    few, many = (make_plan(FitConfig(), n) for n in (1, 100))
    assert few.budget == Budget()
    assert few.ema == 0.0
    assert many.budget.ratio > 0
    assert make_plan(FitConfig(budget="full"), 100).budget == Budget()
    assert make_plan(FitConfig(loss="supervised"), 100).budget == Budget()
    mixed = make_plan(FitConfig(loss="energy,fixed-point"), 100)
    assert mixed.budget == many.budget
    assert make_plan(FitConfig(ema=0.5), 1).ema == 0.5


def test_learning_rate_warms_up_and_decays():
    plan = make_plan(FitConfig(epochs=10), 100)
    rates = [plan.rate(step) for step in range(plan.total_steps + 5)]
    assert plan.total_steps == 100
    assert rates[0] == pytest.approx(1 / 20)
    assert rates[19] == rates[20] == 1.0
    assert all(a > b for a, b in itertools.pairwise(rates[20:101]))
    assert rates[-1] == rates[100] == pytest.approx(0.01)


def test_the_readout_is_solved_in_closed_form_unless_that_is_off():
    assert make_plan(FitConfig(loss="supervised"), 100).ridge == pytest.approx(1e-8)
    assert make_plan(FitConfig(loss="supervised", closed_form=False), 100).ridge is None
    assert make_plan(FitConfig(loss="energy"), 100).ridge is None


def test_a_model_to_start_from_is_trained_gently_and_keeps_its_readout():
    gentle = make_plan(FitConfig(init="a_run"), 100)
    assert gentle.ridge is None
    assert gentle.learning_rate == pytest.approx(1e-3)
    anew = make_plan(FitConfig(init="a_run", closed_form=True), 100)
    assert anew.ridge == pytest.approx(1e-8)
    assert anew.learning_rate == make_plan(FitConfig(), 100).learning_rate > gentle.learning_rate
    few = make_plan(FitConfig(init="a_run"), 8)
    assert few.ridge == make_plan(FitConfig(), 8).ridge, "a few are solved themselves"
    assert few.learning_rate == anew.learning_rate
    assert make_plan(FitConfig(init="a_run", learning_rate=2e-3), 100).learning_rate == 2e-3


def plan(n=100, **values):
    return make_plan(FitConfig(**values), n)


@pytest.mark.parametrize(
    ("n", "values", "epochs", "total", "per_step"),
    [
        (1, {}, 60, 600, 1),
        (1, {"loss": "energy"}, 300, 3000, 1),
        (8, {}, 60, 600, 8),
        (9, {}, 300, 300, 9),
        (1000, {}, 60, 6000, 10),
        (100_000, {}, 40, 400_000, 10),
        (100, {"epochs": 7, "batch_size": 30}, 7, 28, 30),
        (100, {"steps": 25}, 3, 25, 10),
        (1, {"steps": 25}, 3, 25, 1),
        (5, {"batch_size": 64}, 60, 600, 5),
    ],
)
def test_length_of_a_run(n, values, epochs, total, per_step):
    found = plan(n, **values)
    assert (found.epochs, found.total_steps, found.batch_size) == (epochs, total, per_step)
    assert found.max_steps == values.get("steps", -1)
    assert found.limit == ("steps" if "steps" in values else "epochs")
    assert -(-n * found.repeats // found.batch_size) * epochs >= total


def test_few_geometries_are_solved_and_many_are_learnt():
    few, many = plan(8), plan(9)
    assert (few.check, many.check) == (True, False)
    assert (few.repeats, many.repeats) == (10, 1)
    assert few.tol < many.tol
    assert few.ridge < many.ridge
    assert plan(8, conv_tol_grad=1e-7).tol == plan(9, conv_tol_grad=1e-7).tol == 1e-7


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"loss": "energy:0.5,fixed-point"},
        {"steps": 33},
        {"epochs": 3, "batch_size": 2, "ema": 0.5},
        {"init": "a_run"},
        {"loss": "supervised", "supervised_blocks": (0.1, 0.2, 0.3)},
    ],
    ids=str,
)
@pytest.mark.parametrize("n", [1, 8, 40])
def test_settings_that_are_written_down_give_the_same_plan(n, values):
    given = FitConfig(**values)
    first = make_plan(given, n)
    written = resolved(given, first)
    assert make_plan(written, n) == first
    assert resolved(written, first) == written
    assert "auto" not in str(written.loss)


def test_weights_of_the_supervised_loss_arrive():
    found = plan(
        loss="supervised", supervised_blocks=(0.1, 0.2, 0.3), supervised_orbital_energy=0.4
    )
    assert found.match == MatchWeights(occ_occ=0.1, occ_virt=0.2, virt_virt=0.3, orbital_energy=0.4)


@pytest.mark.parametrize("steps", [1, 5, 19])
def test_a_run_shorter_than_the_warm_up_ends_at_the_peak(steps):
    found = plan(1, steps=steps)
    rates = [found.rate(k) for k in range(steps)]
    assert rates == pytest.approx([(k + 1) / steps for k in range(steps)])


def test_a_rate_is_never_zero():
    """Adam's step, and the average's horizon, are divided by it."""
    found = plan(100, epochs=50)
    assert min(found.rate(k) for k in range(3 * found.total_steps)) >= 0.01
