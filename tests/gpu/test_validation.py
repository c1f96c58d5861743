"""Structures that measure are solved, and compared with the base, in one go on a device."""

import pytest
import torch

from deeph_zero.errors import ComputationError
from deeph_zero.train.validation import advance_together, converge
from deeph_zero.train.worth import worth

from ..train import hydrogen as h  # noqa: TID252  (tests are no package)
from .pretended import device_used

pytestmark = [pytest.mark.gpu, pytest.mark.counts]


def network():
    found = h.network()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        for name, weight in found.named_parameters():
            if "_out." in name:
                weight.copy_(0.05 * torch.randn(weight.shape, dtype=weight.dtype))
    found.scales.widen(-1.0, 1.0)
    return found


def test_they_are_solved_and_compared_as_each_alone(seen):
    alone = [h.problem(k) for k in range(3)]
    for one in alone:
        converge(one)
    problems = [h.problem(k, device="cuda") for k in range(3)]
    with device_used():
        advance_together(problems)
    for one, wanted in zip(problems, alone, strict=True):
        converge(one)  # nothing is left to do
        assert one.ks.builds == wanted.ks.builds
        target = one.teacher.target.cpu()
        torch.testing.assert_close(target, wanted.teacher.target, rtol=0, atol=1e-6)
    own, spent = network().to("cuda"), {}
    for n in (1, 3):
        if seen is not None:
            seen.reset()
        found = worth(own, [], problems[:n], [])
        spent[n] = 0 if seen is None else seen.launches
    wanted = worth(network(), [], alone, [])
    assert found.own == pytest.approx(wanted.own, rel=1e-4)
    assert found.base == pytest.approx(wanted.base, rel=1e-3, abs=1e-10)
    assert spent[3] <= 2 * spent[1]


def test_one_that_cannot_be_solved_says_so_alone(monkeypatch):
    problems = [h.problem(k, device="cuda") for k in range(2)]

    def fails(*_):
        raise ComputationError("no")

    for name in ("proposal", "advance"):
        monkeypatch.setattr(problems[1].teacher, name, fails)
    advance_together(problems)
    assert problems[0].teacher.finished
    with pytest.raises(ComputationError, match="no"):
        converge(problems[1])
