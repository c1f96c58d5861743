"""What a layer asks of its surroundings: plain tensors are enough, and are recognised."""

import dataclasses

import pytest
import torch

from deeph_zero.ks.protocol import NVAR, AOBlock, Functional, Grid, StackableGrid, TwoElectron
from deeph_zero.ks.terms.two_electron import FourCentre

from .made_up import Blocks, Quartic, ks_data, random


def test_made_up_surroundings_are_what_is_asked_for():
    assert isinstance(Quartic(), Functional)
    assert isinstance(Blocks(3, (4,)), Grid)
    assert not isinstance(Blocks(3, (4,)), StackableGrid)
    assert isinstance(ks_data().coulomb, TwoElectron)
    assert isinstance(FourCentre(torch.zeros(3, 3, dtype=torch.float64), 2), TwoElectron)


@pytest.mark.parametrize("other", [object(), 3, torch.ones(2)])
def test_something_else_is_told_apart(other):
    for kind in (Functional, Grid, TwoElectron):
        assert not isinstance(other, kind)


def test_rows_of_a_block_are_its_values():
    ao = random(4, 6, 3)
    block = AOBlock(ao=ao, index=None, weights=random(6))
    assert block.rows.shape == (4, 3, 6)
    assert block.rows.data_ptr() == ao.data_ptr()
    assert torch.equal(block.rows[2, 1], ao[2, :, 1])
    assert not block.kept


def test_kinds_have_as_many_rows_as_they_need():
    assert list(NVAR) == ["HF", "LDA", "GGA", "MGGA"]
    assert list(NVAR.values()) == [0, 1, 4, 5]


def test_data_are_frozen_and_plain():
    data = ks_data(3, e_nuc=1.5)
    assert data.plain() is data
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.e_nuc = 2.0
    assert (data.nlc, data.e_disp, data.coarse, data.added) == (None, 0.0, None, ())
