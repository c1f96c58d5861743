"""A network for water takes carbon: nothing changes for water, carbon gets its own scales."""

import dataclasses

import pytest
import torch

from deeph_zero.ao.shells import BasisLayout
from deeph_zero.errors import InputError
from deeph_zero.nn.extension import extended
from deeph_zero.testing import WATER

METHANOL = "C 0 0 0; O 0.1 0 1.4; H 1 0 -.3; H -.5 .8 -.4; H -.5 -.9 -.3; H .8 .1 1.7"
OH = BasisLayout.from_shells({1: (0, 0, 1), 8: (0, 0, 0, 1, 1, 2)})
CARBON = {6: (0, 0, 0, 1, 1, 2)}
SCALES = ("node_shift", "node_scale", "node_out", "pair_scale", "pair_out")


def of_layout(case, layout):
    return dataclasses.replace(case, layout=layout)


def random_scales(net):
    for name in SCALES:
        getattr(net.scales, name).uniform_(0.5, 2.0)


@pytest.fixture
def networks(make_network):
    """For O and H, and the same for C too."""
    net = make_network(OH)
    random_scales(net)
    return net, extended(net, CARBON)


def test_water_is_predicted_as_before(networks, make_case):
    old, new = networks
    assert new.spec.elements == (1, 6, 8)
    case = make_case(WATER)
    before = old(of_layout(case, OH).inputs())[0].to_dense()
    after = new(of_layout(case, new.spec.layout).inputs())[0].to_dense()
    assert before.abs().max() > 1e-2
    assert torch.equal(before, after)


def test_methanol_is_taken_and_calibrated_without_touching_what_is_known(networks, make_case):
    old, new = networks
    case = of_layout(make_case(METHANOL), new.spec.layout)
    correction = new(case.inputs())[0].to_dense().detach()
    assert correction.isfinite().all()
    inputs = case.inputs()
    new.calibrate([inputs], [inputs.blocks(correction)])
    rows = torch.tensor([0, 2])
    for name in SCALES:
        known, now = getattr(old.scales, name), getattr(new.scales, name)
        pair = name.startswith("pair")
        kept = now[rows[:, None], rows] if pair else now[rows]
        assert torch.equal(kept, known), name
        fresh = torch.cat([now[1].flatten(), now[:, 1].flatten()]) if pair else now[1]
        assert (fresh.flatten()[:, None] != known.flatten()[:5]).all(), name
    assert new(case.inputs())[0].values.isfinite().all()


def test_no_new_element_is_the_same_network(make_network):
    net = make_network(OH)
    assert extended(net, {8: CARBON[6]}) is net
    before = net.scales.node_out.clone()
    assert bool(net.scales.settled.all())
    assert torch.equal(before, net.scales.node_out)


def test_more_shells_than_slots_are_refused(make_network):
    sulfur = {16: (0, 0, 0, 0, 1, 1, 1, 2)}
    with pytest.raises(InputError, match=r"cannot take new elements: .*slots"):
        extended(make_network(OH), sulfur)
