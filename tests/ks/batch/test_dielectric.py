"""The dielectric step of a stack: that of each molecule alone, however many products it takes."""

import pytest
import torch

from deeph_zero.ks.batch import dielectric
from deeph_zero.ks.batch.dielectric import dielectric_steps, whole_steps
from deeph_zero.ks.batch.padded import PaddedBucket
from deeph_zero.ks.response.dielectric import dielectric_step


def alone(layers, focks, dms):
    return [dielectric_step(*one) for one in zip(layers, focks, dms, strict=True)]


@pytest.mark.parametrize("usual", [6, 1])
def test_whole_steps_are_those_of_each_alone(small, nspin, disturbed, usual, monkeypatch):
    monkeypatch.setattr(dielectric, "USUAL_PRODUCTS", usual)
    layers = small(nspin)
    focks, dms = disturbed(layers)
    found = whole_steps(PaddedBucket(layers), focks, dms)
    for one, other in zip(found, alone(layers, focks, dms), strict=True):
        assert float(other.abs().max()) > 1e-5 or other.shape[-1] == 1  # one orbital stays
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


def test_products_beyond_need_change_nothing(small, disturbed):
    layers = small(1)
    focks, dms = disturbed(layers)
    bucket = PaddedBucket(layers)
    stacks = bucket.padding.stack(focks), bucket.padding.stack(dms)
    found, used = dielectric_steps(bucket, *stacks, 12)
    again, same = dielectric_steps(bucket, *stacks, int(used.max()))
    assert int(used.min()) > 0
    assert int(used.max()) < 12
    torch.testing.assert_close(found, again, rtol=0, atol=1e-14)
    assert used.tolist() == same.tolist()
    fewer, _ = dielectric_steps(bucket, *stacks, 1)
    assert float((fewer - found).abs().max()) > 1e-8


def test_a_self_consistent_molecule_stands_still(small, disturbed):
    layers = small(1)
    focks, dms = disturbed(layers)
    solved = layers[0].density(focks[0])  # P of F itself: nothing is left to move
    bucket = PaddedBucket(layers)
    stack = bucket.padding.stack([solved, dms[1]])
    found, _ = dielectric_steps(bucket, bucket.padding.stack(focks), stack, 6)
    assert float(found[0].abs().max()) < 1e-10
    assert float(found[1].abs().max()) > 1e-5


def test_indefinite_spins_go_on_by_the_total_density(small, disturbed, monkeypatch):
    """A spin part so large that the equations are indefinite is left out, molecule by molecule."""
    layers = small(2)
    focks, dms = disturbed(layers)
    for module in ("deeph_zero.ks.batch.dielectric", "deeph_zero.ks.response.dielectric"):
        monkeypatch.setattr(f"{module}.SPIN_PART", 5.0)
    found = whole_steps(PaddedBucket(layers), focks, dms)
    for one, other in zip(found, alone(layers, focks, dms), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
