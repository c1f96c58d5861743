"""A training step of one process among several: shares, sums and means as one process has them."""

import math

import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.ks.counts import Builds
from deeph_zero.settings.config import FitConfig
from deeph_zero.train.plan import make_plan
from deeph_zero.train.taught import Absent
from deeph_zero.train.team import Team
from deeph_zero.train.team_module import TeamModule

from . import hydrogen as h

N = 10


class Told(Team):
    """A process that is told what the other one said, without it."""

    def __init__(self, rank, other=None):
        self.rank, self.size = rank, 2
        self.other = other if other is not None else (lambda item: item)
        self.sent = []

    def gather(self, item):
        self.sent.append(item)
        said = [item, self.other(item)]
        return said if self.rank == 0 else said[::-1]

    def sum_gradients(self, parameters):
        for p in parameters:
            if p.grad is not None:
                p.grad = 2 * p.grad


def module(rank=0, other=None, loss="fixed-point"):
    problems = [h.problem(k) if k % 2 == rank else Absent(h.hydrogen(k)) for k in range(4)]
    plan = make_plan(FitConfig(loss=loss, batch_size=4), N)
    return TeamModule(h.network(), problems, plan, Told(rank, other))


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_has_every_second_geometry(rank):
    one = module(rank)
    assert one.here() == [rank, rank + 2]
    assert one.share([0, 1, 2, 3, 4]) == [k for k in range(5) if k % 2 == rank]


def test_few_geometries_are_refused():
    plan = make_plan(FitConfig(), 3)
    with pytest.raises(InputError, match="expected more than 8 geometries for 2 processes, got 0"):
        TeamModule(h.network(), [], plan, Told(0))


def test_numbers_of_the_whole_follow_from_those_of_the_processes():
    one = module()
    parts = [
        {"loss": (1.0, 1), "fock_builds": (3.0, 1), "gap": (0.2, 1), "teacher": (-math.inf, 1)},
        {"loss": (2.0, 3), "fock_builds": (4.0, 1), "gap": (0.1, 3), "skipped_steps": (2.0, 1)},
    ]
    one._log_all(parts)
    assert one._metrics == {
        "loss": pytest.approx(7.0 / 4),
        "fock_builds": 7.0,
        "gap": 0.1,
        "teacher": -math.inf,
        "skipped_steps": 2.0,
    }


def test_a_time_limit_of_one_ends_all():
    one = module(other=lambda _: True)
    assert one._first_builds(None) is False
    two = module(other=lambda _: False)
    assert two._first_builds(None) is True
    assert [two._problem(k).teacher.started for k in two.here()] == [True, True]


def started(other=None):
    one = module(other=None)
    assert one._first_builds(None)
    one._team.other = other if other is not None else (lambda item: item)
    return one


def test_a_loss_is_this_processs_part_of_the_mean():
    """Two of four geometries are here, and the other process had as many."""
    one = started()
    wanted = module()
    assert wanted._first_builds(None)
    mine = one.training_step([0, 1, 2, 3], 0)
    plain = super(TeamModule, wanted).training_step([0, 1, 2, 3], 0)
    assert float(mine.detach()) == pytest.approx(0.5 * float(plain.detach()))
    assert one._metrics["loss"] == pytest.approx(float(plain.detach()))
    assert one.remote_builds == one.builds, "what the other one spent"


def test_a_batch_without_a_geometry_here_has_a_loss_of_zero_with_a_gradient():
    def other(item):
        return (False, {"loss": (2.0, 2)}, Builds(1, 0)) if isinstance(item, tuple) else item

    one = started(other)
    loss = one.training_step([1, 3], 0)
    assert float(loss.detach()) == 0.0
    loss.backward()
    grads = [p.grad for p in one.network.parameters()]
    assert all(g is not None and not bool(g.any()) for g in grads)


def test_a_step_that_is_bad_somewhere_counts_everywhere():
    def other(item):
        return (True, {}, Builds()) if isinstance(item, tuple) else item

    one = started(other)
    assert one.training_step([0, 1], 0) is None
    assert one.skipped_steps == 1


def test_geometries_that_one_dropped_are_dropped_by_all():
    one = started(lambda item: {5: "failed"} if isinstance(item, dict) else item)
    one.on_train_epoch_start()
    assert one.lessons.dropped == {5: "failed"}


def test_gradients_are_added_up_before_they_are_clipped():
    one = started()
    optimizer = one.configure_optimizers()["optimizer"]
    for p in one.network.parameters():
        p.grad = torch.ones_like(p)
    one.configure_gradient_clipping(optimizer)
    gradient = one._flat.vector.grad
    assert float(gradient.max()) == 2.0


def test_every_process_keeps_its_own_part_in_one_checkpoint():
    one = started()
    kept = {}
    one.on_save_checkpoint(kept)
    assert len(kept["fit"]["team"]) == 2
    assert kept["fit"]["converged_to"] is None
    other = module()
    other.on_load_checkpoint(kept)
    assert other.lessons.errors == one.lessons.errors
    assert torch.equal(other._problem(0).teacher.target, one._problem(0).teacher.target)
