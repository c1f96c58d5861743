"""Derivatives of a network's output along the atoms, against differences of its predictions."""

import dataclasses

import pytest
import torch

from deeph_zero.nn.inputs import PhysicsMatrices
from deeph_zero.nn.moving import MovingNetwork
from deeph_zero.testing import WATER

STEP = 1e-3


def changed(matrices, seed):
    """A derivative of the input matrices: symmetric, made up."""
    generator = torch.Generator().manual_seed(seed)

    def some(like):
        noise = 0.1 * torch.randn(like.shape, generator=generator, dtype=like.dtype)
        return noise + noise.mT

    kept = {k: some(m) for k, m in vars(matrices).items() if isinstance(m, torch.Tensor)}
    return dataclasses.replace(matrices, **kept)


def moved_case(case, atom, axis, change, t):
    """The molecule and its matrices a step on."""
    coords = case.coords.clone()
    coords[atom, axis] += t
    matrices = {
        k: m + t * getattr(change, k)
        for k, m in vars(case.matrices).items()
        if isinstance(m, torch.Tensor)
    }
    return dataclasses.replace(
        case, coords=coords, matrices=dataclasses.replace(case.matrices, **matrices)
    )


def predicted(net, case):
    with torch.no_grad():
        return net(case.inputs(net.spec.cutoff))[0].to_dense()


@pytest.mark.parametrize("spin", [0, 1])
def test_output_and_derivatives_are_those_of_predictions(make_case, make_network, spin):
    case = make_case(WATER, channels=1 + spin, charge=spin, spin=spin)
    net = make_network(case.layout)
    here = MovingNetwork(net, case.numbers, case.coords, (case.charge, case.spin), case.matrices)
    torch.testing.assert_close(here.output, predicted(net, case), rtol=0, atol=1e-11)
    atom = 1
    changes = [changed(case.matrices, seed) for seed in range(3)]
    found = list(here.moved(atom, changes))
    assert len(found) == 3
    for axis in (0, 2):
        f = [predicted(net, moved_case(case, atom, axis, changes[axis], t * STEP))
             for t in (1, -1, 2, -2)]  # fmt: skip
        numeric = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * STEP)
        assert float(numeric.abs().max()) > 1e-3
        torch.testing.assert_close(found[axis], numeric, rtol=1e-5, atol=1e-7)


def test_all_atoms_together_change_nothing(make_case, make_network):
    """The matrices standing still, the network sees distances alone."""
    case = make_case(WATER)
    here = MovingNetwork(
        make_network(case.layout), case.numbers, case.coords, (0, 0), case.matrices
    )
    still = PhysicsMatrices(
        **{k: torch.zeros_like(m) for k, m in vars(case.matrices).items()
           if isinstance(m, torch.Tensor)}
    )  # fmt: skip
    each = [torch.stack(list(here.moved(atom, [still] * 3))) for atom in range(3)]
    assert float(each[0].abs().max()) > 1e-3
    torch.testing.assert_close(sum(each), torch.zeros_like(each[0]), rtol=0, atol=1e-12)


def test_the_network_itself_stays_as_it_was(make_case, make_network):
    """A copy is differentiated, in double precision; the user's own may be training in single."""
    case = make_case("H 0 0 0; O 0 .3 .9", charge=-1)
    net = make_network(case.layout).float().train()
    here = MovingNetwork(net, case.numbers, case.coords, (-1, 0), case.matrices)
    assert here.output.dtype == torch.float64
    assert net.training
    assert all(p.dtype == torch.float32 for p in net.parameters())
