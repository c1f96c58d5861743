"""The network as an object: gradients, start at zero, scales, spec, errors."""

import dataclasses
import json

import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.nn.inputs import PhysicsMatrices, collate
from deeph_zero.nn.network import FockNetwork, _factors
from deeph_zero.nn.readout import solve_readout
from deeph_zero.nn.spec import NetworkSpec, default_spec
from deeph_zero.testing import WATER

BENZENE = "; ".join(
    f"{s} {r * c:.6f} {r * d:.6f} 0"
    for c, d in [
        (1, 0),
        (0.5, 0.8660254),
        (-0.5, 0.8660254),
        (-1, 0),
        (-0.5, -0.8660254),
        (0.5, -0.8660254),
    ]
    for s, r in (("C", 1.39), ("H", 2.48))
)
HARD = {
    "one electron": ("H 0 0 0", 2, 1),
    "single atom": ("O 0 0 0", 1, 0),
    "dihydrogen": ("H 0 0 0; H 0 0 0.74", 1, 0),
    "linear": ("O 0 0 0; C 0 0 1.16; O 0 0 2.32", 1, 0),
    "methane": ("C 0 0 0; H .63 .63 .63; H -.63 -.63 .63; H -.63 .63 -.63; H .63 -.63 -.63", 1, 0),
    "benzene": (BENZENE, 1, 0),
}


def symmetric(n, seed, lead=()):
    g = torch.Generator().manual_seed(seed)
    m = torch.randn(*lead, n, n, generator=g, dtype=torch.float64)
    return 0.05 * (m + m.mT)


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_starts_at_zero_with_finite_gradients(name, dtype, make_case):
    atom, channels, spin = HARD[name]
    case = make_case(atom, channels=channels, spin=spin)
    net = FockNetwork(default_spec(case.layout, "tiny")).to(dtype)
    inputs = case.inputs(dtype=dtype)
    lead = (2,) if channels == 2 else ()
    wanted = symmetric(case.matrices.ovlp.shape[0], 0, lead)
    net.calibrate([inputs], [inputs.blocks(wanted)])
    out = net(inputs)[0].to_dense()
    assert out.abs().max() == 0
    (out - wanted).square().mean().backward()
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in grads)
    assert max(float(g.abs().max()) for g in grads if g.numel()) > 0


def test_beta_without_electrons(make_case):
    case = make_case("H 0 0 0", channels=2, spin=1)
    m = case.matrices
    empty = torch.stack([m.dm0[0], torch.zeros_like(m.dm0[0])])
    case = dataclasses.replace(case, matrices=dataclasses.replace(m, dm0=empty, ddm0=0 * empty))
    net = FockNetwork(default_spec(case.layout, "tiny"))
    inputs = case.inputs(dtype=torch.float32)
    net.calibrate([inputs], [inputs.blocks(symmetric(5, 1, (2,)))])
    assert all(s.isfinite().all() for s in net.scales.buffers())
    assert net(inputs)[0].to_dense().shape == (2, 5, 5)


def test_second_derivatives_exist(make_case, make_network):
    """The self-consistency loss differentiates through the output more than once."""
    case = make_case("H 0 0 0; H 0 0 0.74")
    net = make_network(case.layout)
    weight = net.pair_start.weights[0]
    out = net(case.inputs())[0].to_dense().square().sum()
    (first,) = torch.autograd.grad(out, weight, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), weight)
    assert second.isfinite().all()
    assert second.abs().max() > 0


def test_factors_are_one_without_a_film():
    film = torch.nn.Linear(4, 6).double()
    condition = torch.randn(3, 4).double()
    torch.testing.assert_close(_factors(film, condition), 1 + film(condition), rtol=0, atol=1e-14)
    torch.nn.init.zeros_(film.weight)
    torch.nn.init.zeros_(film.bias)
    assert torch.equal(_factors(film, condition), torch.ones(3, 6).double())


def test_calibration_makes_inputs_of_order_one(make_case):
    cases = [make_case(WATER, seed=s) for s in range(4)]
    net = FockNetwork(default_spec(cases[0].layout, "tiny")).double()
    inputs = [c.inputs() for c in cases]
    wanted = [symmetric(24, s) for s in range(4)]
    net.calibrate(inputs, [x.blocks(w) for x, w in zip(inputs, wanted, strict=True)])
    batch = collate(inputs)
    species = net.scales.species(batch)
    pairs = net.scales.pair_inputs(batch.edge_inputs, species, batch.edge_index)
    i, j = species[batch.edge_index[0]], species[batch.edge_index[1]]
    for a, b in ((0, 3), (0, 0)):
        chosen = pairs[(i == a) & (j == b)]
        rms = chosen.square().mean(0).sqrt()
        assert rms.max() < 3
        assert 0.5 < rms[rms > 0].median() < 1.5
    # carbon was not seen: finite, positive fallback
    assert (net.scales.node_scale > 0).all()
    assert (net.scales.pair_out > 0).all()
    assert not torch.equal(net.scales.node_out[3], torch.ones_like(net.scales.node_out[3]))


def test_calibration_is_saved_with_the_weights(make_case):
    case = make_case(WATER)
    nets = [FockNetwork(default_spec(case.layout, "tiny")).double() for _ in range(2)]
    inputs = case.inputs()
    nets[0].calibrate([inputs], [inputs.blocks(symmetric(24, 0))])
    torch.nn.init.normal_(nets[0].pair_out.weights[0])
    nets[1].load_state_dict(nets[0].state_dict())
    a, b = (net(case.inputs())[0].to_dense() for net in nets)
    assert a.abs().max() > 0
    assert torch.equal(a, b)


def test_spec_survives_json(make_case):
    spec = default_spec(make_case(WATER).layout, "small", cutoff=11.0)
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    count = sum(p.numel() for p in FockNetwork(spec).parameters())
    assert 3e5 < count < 1e6


def test_geometry_inputs_of_version_0_1_ignore_the_density(make_case, make_network):
    case = make_case(WATER)
    net = make_network(case.layout, inputs="geometry", base="fock")
    bare = PhysicsMatrices(ovlp=case.matrices.ovlp, hcore=case.matrices.hcore)
    a = net(case.inputs())[0].to_dense()
    without = dataclasses.replace(case, matrices=bare).inputs()
    # the overlap-and-density factor of the pairs is the only thing the density still moves
    without = dataclasses.replace(without, decay=case.inputs().decay)
    torch.testing.assert_close(net(without)[0].to_dense(), a, rtol=0, atol=1e-13)
    physics = make_network(case.layout)
    assert (physics(case.inputs())[0].values - physics(without)[0].values).abs().max() > 1e-3


def test_readout_solve_fits_one_molecule(make_case):
    """A random target is reachable: the residual of an asymmetric molecule goes with the ridge.

    The ridge is tiny here because a planar molecule's out-of-plane features are small.
    """
    case = make_case(WATER)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = FockNetwork(default_spec(case.layout, "small")).double()
    inputs, wanted = case.inputs(), symmetric(24, 5)
    net.calibrate([inputs], [inputs.blocks(wanted)])
    errors = []
    for ridge in (1e-10, 1e-13):
        solve_readout(net, [inputs], [inputs.blocks(wanted)], ridge=ridge)
        errors.append((net(inputs)[0].to_dense() - wanted).abs().max() / wanted.abs().max())
    assert errors[0] < 5e-3
    assert errors[1] < 1e-5


def test_wrong_inputs_are_named(make_case, make_network):
    case = make_case(WATER)
    net = make_network(case.layout)
    with pytest.raises(InputError, match=r"cutoff 14.0 bohr, got 9.0"):
        net(case.inputs(cutoff=9.0))
    with pytest.raises(InputError, match="spin 2 needs alpha and beta"):
        dataclasses.replace(case, spin=2).inputs()
    with pytest.raises(InputError, match="has 19 AOs for this molecule, the matrices have 24"):
        dataclasses.replace(case, numbers=[8, 1], coords=case.coords[:2]).inputs()
    with pytest.raises(InputError, match="must be apart, got atoms 0 and 1"):
        dataclasses.replace(case, coords=torch.zeros(3, 3).double()).inputs()
    with pytest.raises(InputError, match="expected one of the elements"):
        dataclasses.replace(case, numbers=[9, 1, 1]).inputs()
    partial = dataclasses.replace(case.matrices, ddm0=None)
    with pytest.raises(InputError, match="pass all or none"):
        dataclasses.replace(case, matrices=partial).inputs()
    with pytest.raises(InputError, match="one cutoff"):
        collate([case.inputs(), case.inputs(cutoff=9.0)])
    with pytest.raises(InputError, match="must be a matrix of shape"):
        case.inputs().blocks(torch.zeros(3, 3))
    with pytest.raises(InputError, match="one correction per molecule"):
        net.calibrate([], [])
