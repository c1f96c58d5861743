"""The running mean of weights: its horizon, its exchange with them, its state."""

import pytest
import torch

from deeph_zero.train.average import WeightAverage


def test_average_follows_small_steps():
    network = torch.nn.Linear(2, 1, bias=False)
    average = WeightAverage(list(network.parameters()), 0.99)
    for step in range(1000):
        torch.nn.init.constant_(network.weight, float(step))
        average.update()
    lag = 999.0 - float(average.state()["mean"][0][0, 0])
    assert 90.0 < lag < 110.0
    for step in range(1000, 1100):
        torch.nn.init.constant_(network.weight, float(step))
        average.update(rate=0.1)
    assert float(average.state()["mean"][0][0, 0]) == pytest.approx(1090.0, abs=1.0)
    average.update(rate=0.01)
    assert torch.equal(average.state()["mean"][0], network.weight)


def test_average_of_weights():
    network = torch.nn.Linear(2, 1, bias=False)
    average = WeightAverage(list(network.parameters()), 0.9)
    mean = None
    for step in range(1, 200):
        torch.nn.init.constant_(network.weight, float(step % 7))
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        mean = step % 7 if mean is None else decay * mean + (1 - decay) * (step % 7)
    now = network.weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(network.weight, torch.full((1, 2), mean))
    assert torch.equal(network.weight, now)
    other = WeightAverage(list(network.parameters()), 0.9)
    other.restore(average.state())
    for one in (average, other):
        one.update()
    assert torch.equal(average.state()["mean"][0], other.state()["mean"][0])
    average.adopt()
    assert torch.equal(network.weight, average.state()["mean"][0])
    without = WeightAverage(list(network.parameters()), 0.0)
    without.update()
    with without.applied():
        assert torch.equal(network.weight, average.state()["mean"][0])


@pytest.fixture
def weights():
    return [torch.zeros(2), torch.ones(1, 3)]


def test_the_own_weights_come_back_whatever_happens(weights):
    average = WeightAverage(weights, 0.9)
    average.update()
    torch._foreach_add_(weights, 5.0)
    seen = []

    def breaks():
        with average.applied():
            seen.append(float(weights[0][0]))
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        breaks()
    assert seen == [0.0]
    assert float(weights[0][0]) == 5.0
    assert float(weights[1][0, 0]) == 6.0


def test_after_clearing_the_weights_count_as_they_are(weights):
    average = WeightAverage(weights, 0.9)
    average.update()
    weights[0] += 5.0
    average.clear()
    with average.applied():
        assert float(weights[0][0]) == 5.0
    average.adopt()
    assert float(weights[0][0]) == 5.0
    average.update()
    assert torch.equal(average.state()["mean"][0], weights[0]), "the first update copies"
    assert average.state()["updates"] == 1


def test_its_state_does_not_follow_later_steps(weights):
    average = WeightAverage(weights, 0.9)
    average.update()
    kept = average.state()
    weights[0] += 5.0
    average.update()
    assert float(kept["mean"][0][0]) == 0.0
    assert float(average.state()["mean"][0][0]) > 0.0


def test_a_state_of_another_precision_becomes_the_weights(weights):
    average = WeightAverage([w.double() for w in weights], 0.9)
    other = WeightAverage(weights, 0.9)
    average.update()
    other.restore(average.state())
    assert [m.dtype for m in other.state()["mean"]] == [torch.float32] * 2


def test_without_an_average_there_is_nothing_to_keep(weights):
    average = WeightAverage(weights, 0.0)
    average.update()
    assert average.state() == {"updates": 0, "mean": []}
