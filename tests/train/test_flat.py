"""Weights as one vector: network, steps of an optimiser and old checkpoints stay what they were."""

import copy

import torch

from deeph_zero.train.flat import FlatWeights


def small_network(seed=0):
    torch.manual_seed(seed)
    empty = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(5, 0))])
    layers = [torch.nn.Linear(3, 5), torch.nn.Tanh(), empty, torch.nn.Linear(5, 2)]
    return torch.nn.ModuleList(layers).double()


def loss(network, x):
    return network[3](network[1](network[0](x))).square().mean()


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-2, betas=(0.9, 0.99), eps=1e-16, fused=True)


def train(network, optimizer, flat, steps, seed):
    g = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(network, torch.randn(4, 3, dtype=torch.float64, generator=g)).backward()
        if flat is not None:
            assert flat.collect() is flat.vector.grad
        optimizer.step()


def test_steps_are_those_of_single_weights():
    one, other = small_network(), small_network()
    flat = FlatWeights(other)
    train(one, adam(one.parameters()), None, 20, 1)
    train(other, adam([flat.vector]), flat, 20, 1)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        # fused loops may round a product and a sum together in one place and not in the other
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)
        assert b.grad is None


def test_weights_stay_views_when_loaded_and_say_when_they_moved():
    network = small_network()
    flat = FlatWeights(network)
    network.load_state_dict(small_network(3).state_dict())
    assert torch.equal(flat.vector[:15].view(5, 3), small_network(3)[0].weight)
    assert not flat.moved
    network.float()
    assert flat.moved


def test_unused_weights_have_a_zero_gradient_and_none_have_none():
    network = small_network()
    flat = FlatWeights(network)
    assert flat.collect() is None
    assert flat.vector.grad is None
    loss(network, torch.ones(4, 3, dtype=torch.float64)).backward()
    flat.collect()
    network[3].bias.sum().backward()
    gradient = flat.collect()
    assert gradient is not None
    assert float(gradient.sum()) == network[3].bias.numel() == float(gradient.abs().sum())


def test_state_of_single_weights_is_taken_over():
    one = small_network()
    before = adam(one.parameters())
    train(one, before, None, 5, 1)
    other = copy.deepcopy(one)
    flat = FlatWeights(other)
    after = adam([flat.vector])
    state = copy.deepcopy(before.state_dict())
    flat.join_state(state)
    after.load_state_dict(state)
    flat.join_state(after.state_dict())  # is the vector's already
    train(one, before, None, 5, 2)
    train(other, after, flat, 5, 2)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)
