"""Layers of message passing: pairs that fade, atoms alone, and the order of atoms and pairs."""

import dataclasses

import pytest
import torch

from deeph_zero.nn.interactions import LAYERS
from deeph_zero.nn.spec import default_spec

ATOMS = "O 0 0 .1; H 0 1.5 1.2; C .3 -3 .9"


@pytest.fixture(scope="module")
def case(make_case):
    made = make_case(ATOMS, charge=1)
    return made, made.inputs(cutoff=9.0)


@pytest.fixture(params=LAYERS)
def layer(request, case):
    spec = dataclasses.replace(default_spec(case[0].layout, "tiny", cutoff=9.0),
                               interaction=request.param)  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(2)
        made = LAYERS[request.param](spec).double()
        with torch.no_grad():
            for p in made.parameters():
                p.add_(0.05 * torch.randn_like(p))
    return spec, made


def features(spec, inputs, seed=0):
    """Random nodes [natm, 2l+1, c] by irrep, pairs by order in the frame, and conditions."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    n, e = len(inputs.numbers), len(inputs.distances)
    nodes = [random(n, 2 * l + 1, count)
             for l, both in enumerate(zip(spec.natural, spec.pseudo, strict=True))
             for count in both if count]  # fmt: skip
    pairs = [random(e, *([2] if k > 1 else []), w) for k, w in enumerate(spec.pair)]
    return nodes, pairs, random(n, spec.embedding), random(e, spec.embedding)


def test_a_pair_beyond_the_cutoff_says_nothing(case, layer):
    """Whatever its features are, atoms do not notice; where it is near they do."""
    (_, inputs), (spec, made) = case, layer
    nodes, pairs, element, condition = features(spec, inputs)
    other = [p.clone() for p in pairs]
    for p in other:
        p[0] += 1.0
    faded = dataclasses.replace(
        inputs, envelope=inputs.envelope.index_fill(0, torch.tensor([0]), 0)
    )
    for x, same in ((faded, True), (inputs, False)):
        one, two = (made(nodes, p, element, condition, x)[0] for p in (pairs, other))
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True)) == same


def test_only_the_receiver_of_a_pair_hears_it(case, layer):
    (_, inputs), (spec, made) = case, layer
    nodes, pairs, element, condition = features(spec, inputs, seed=1)
    other = [p.clone() for p in pairs]
    for p in other:
        p[2] -= 0.5
    one, two = (made(nodes, p, element, condition, inputs)[0] for p in (pairs, other))
    moved = {k for a, b in zip(one, two, strict=True)
             for k in (a != b).flatten(1).any(1).nonzero().flatten().tolist()}  # fmt: skip
    assert moved == {int(inputs.edge_index[0, 2])}


def test_the_order_of_pairs_does_not_matter(case, layer):
    (_, inputs), (spec, made) = case, layer
    nodes, pairs, element, condition = features(spec, inputs, seed=2)
    order = torch.randperm(len(inputs.distances), generator=torch.Generator().manual_seed(3))
    turned = dataclasses.replace(
        inputs,
        edge_index=inputs.edge_index[:, order],
        **{name: getattr(inputs, name)[order]
           for name in ("distances", "envelope", "decay", "edge_inputs", "ao_wigner")},
        wigner=tuple(d[order] for d in inputs.wigner),
    )  # fmt: skip
    one = made(nodes, pairs, element, condition, inputs)
    two = made(nodes, [p[order] for p in pairs], element, condition[order], turned)
    for a, b in zip(one[0], two[0], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    for a, b in zip(one[1], two[1], strict=True):
        torch.testing.assert_close(a[order], b, rtol=0, atol=1e-12)
