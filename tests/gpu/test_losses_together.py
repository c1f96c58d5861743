"""Losses and errors of several geometries on a device are made in one go, as of each alone."""

import pytest
import torch

from deeph_zero.data.labels import Label
from deeph_zero.settings.loss_terms import parse_loss
from deeph_zero.train.losses import NUMBERS, LossMix, MatchWeights, settled
from deeph_zero.train.losses_together import values_together
from deeph_zero.train.validation import errors

from ..train import hydrogen as h  # noqa: TID252  (tests are no package)
from .pretended import device_used

pytestmark = pytest.mark.gpu
WEIGHTS = MatchWeights(occ_occ=0.4, occ_virt=0.3, virt_virt=0.2, orbital_energy=0.5)
TEXTS = ("supervised", "supervised:0.3,fixed-point")
WITH_BUILDS = (
    "energy",
    "self-consistency:0.5,commutator",
    "commutator:2,supervised:0.3,fixed-point",
)


def shift(like):
    m = torch.randn(like.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    return (0.01 * (m + m.mT)).to(like.device)


def labelled(device, n):
    problems = [h.problem(k, device=device) for k in range(n)]
    for one in problems:
        fock = (one.fock0 - 0.3 * shift(one.fock0)).cpu()
        nothing = torch.zeros(len(fock), dtype=torch.float64)
        one.label = Label(fock=fock, dm=fock, energy=0.0, mo_energy=nothing, mo_occ=nothing)
    return problems


def taught(problems, text):
    mix = LossMix(parse_loss(text), WEIGHTS)
    given = [(p.fock0 + shift(p.fock0)).requires_grad_() for p in problems]
    found = values_together(mix, problems, given)
    loss = torch.stack([one.loss for one in found]).mean()
    (mean,), values = settled([loss], found)
    grads = torch.autograd.grad(loss, given)
    return mean, [numbers(one) for one in values], grads


def numbers(value):
    return float(value.loss.detach()), *(getattr(value, name) for name in NUMBERS)


@pytest.mark.parametrize("text", [*TEXTS, *WITH_BUILDS])
def test_numbers_are_those_of_each_alone(text):
    with device_used():
        _, found, grads = taught(labelled("cuda", 2), text)
    mix = LossMix(parse_loss(text), WEIGHTS)
    for problem, one, grad in zip(labelled("cpu", 2), found, grads, strict=True):
        given = (problem.fock0 + shift(problem.fock0)).requires_grad_()
        wanted = mix(problem, given)
        assert one == pytest.approx(numbers(wanted), rel=1e-7)
        torch.testing.assert_close(
            grad.cpu(), 0.5 * torch.autograd.grad(wanted.loss, given)[0], rtol=1e-7, atol=1e-9
        )


@pytest.mark.counts
def test_several_cost_what_one_does(seen):
    if seen is None:
        pytest.skip("a real device does not count")
    problems = labelled("cuda", 3)
    for text, most in zip(TEXTS, (210, 280), strict=True):
        taught(problems, text)  # makes the orbitals of the targets
        spent = {}
        for n in (1, 3):
            seen.reset()
            taught(problems[:n], text)
            spent[n] = seen.launches, seen.n_syncs, seen.report()
        # making H of each, and its loss read here: 5 launches and a copy
        assert spent[3][0] <= spent[1][0] + 20, spent[3][2]
        assert spent[3][0] <= most, spent[3][2]
        assert spent[3][1] <= spent[1][1] + 2, spent[3][2]
    network = h.network().to("cuda")
    spent = {}
    for n in (1, 3):
        seen.reset()
        errors(network, problems[:n])
        spent[n] = seen.launches, seen.n_syncs, seen.report()
    # one alone is not put together
    assert spent[3][0] <= spent[1][0] + 60, spent[3][2]


def test_errors_that_are_measured():
    network = h.network()
    wanted = errors(network, labelled("cpu", 2))
    found = errors(network.to("cuda"), labelled("cuda", 2))
    assert found == pytest.approx(wanted, rel=1e-6)
