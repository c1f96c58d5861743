"""Scales from examples: numbers of order one, in parts or at once, and none that magnifies."""

import dataclasses

import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.nn.scales import NOTHING, Scales
from deeph_zero.nn.spec import default_spec

ATOMS = ("O 0 0 .1; H 0 1.5 1.2; C .3 -3 .9", "C 0 0 0; O .3 .2 2.1; H 1 -2 .3")


@pytest.fixture(scope="module")
def examples(make_case):
    cases = [make_case(atoms, charge=1, seed=k) for k, atoms in enumerate(ATOMS)]
    inputs = [case.inputs() for case in cases]
    generator = torch.Generator().manual_seed(4)
    corrections = []
    for case, one in zip(cases, inputs, strict=True):
        nao = case.layout.nao(case.numbers)
        noise = 1e-3 * torch.randn(nao, nao, generator=generator, dtype=torch.float64)
        corrections.append(one.blocks(noise + noise.mT))
    return cases[0].layout, inputs, corrections


@pytest.fixture
def scales(examples):
    return Scales(default_spec(examples[0], "tiny"))


def test_scaled_numbers_are_of_order_one(examples, scales):
    _, inputs, corrections = examples
    scales.calibrate(inputs, corrections)
    for one, correction in zip(inputs, corrections, strict=True):
        x = one.to(dtype=torch.float64)
        species = scales.species(x)
        node = scales.node_inputs(x.node_inputs, species)
        pair = scales.pair_inputs(x.edge_inputs, species, x.edge_index)
        assert float(node.abs().max()) < 30
        assert float(pair.abs().max()) < 30
        assert float(x.node_inputs.abs().max()) > 10 * float(x.edge_inputs.abs().max())
        target, _ = scales.targets(x, correction)
        out = target / scales.node_out[species]
        used = out[target != 0]
        assert 0.2 < float(used.square().mean().sqrt()) < 5


def test_sums_of_parts_are_the_whole(examples, scales):
    layout, inputs, corrections = examples
    scales.calibrate(inputs, corrections)
    parts = Scales(default_spec(layout, "tiny"))
    parts.set_from([parts.moments([x], [c]) for x, c in zip(inputs, corrections, strict=True)])
    for name, value in scales.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name


def test_components_of_an_irrep_share_a_scale(examples, scales):
    _, inputs, corrections = examples
    scales.calibrate(inputs, corrections)
    for table, instance in ((scales.node_out, scales.node_instance),
                            (scales.pair_out[0, 1], scales.pair_instance)):  # fmt: skip
        rows = table.reshape(-1, table.shape[-1])
        for k in range(int(instance.max()) + 1):
            own = rows[:, instance == k]
            assert torch.equal(own, own[:, :1].expand_as(own))


def test_unseen_elements_get_the_mean_and_settled_ones_keep_theirs(examples, scales):
    _, inputs, corrections = examples
    nitrogen = scales.elements.index(7)
    scales.settled[scales.elements.index(8)] = True
    scales.calibrate(inputs, corrections)
    assert float(scales.node_out[nitrogen].min()) > 0
    assert not torch.equal(scales.node_out[nitrogen], torch.ones_like(scales.node_out[nitrogen]))
    oxygen = scales.elements.index(8)
    assert torch.equal(scales.node_out[oxygen], torch.ones_like(scales.node_out[oxygen]))
    assert not torch.equal(scales.pair_out[oxygen, 0], torch.ones_like(scales.pair_out[oxygen, 0]))


def test_ranges_only_widen(scales):
    assert scales.seen_corrections == (NOTHING, -NOTHING)
    scales.widen(-0.1, 0.2)
    scales.widen(0.0, 0.3)
    assert scales.seen_corrections == pytest.approx((-0.1, 0.3))


def test_what_is_unknown_or_missing_is_said(examples, scales):
    _, inputs, corrections = examples
    with pytest.raises(InputError, match=r"one of the elements .* got 9"):
        scales.species(dataclasses.replace(inputs[0], elements=frozenset({1, 9})))
    with pytest.raises(InputError, match="as many corrections as inputs"):
        scales.calibrate(inputs, corrections[:1])
    with pytest.raises(InputError, match="at least one"):
        scales.calibrate([], [])
