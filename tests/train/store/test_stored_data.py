"""Data of a molecule from a store: the same values, and only large ones are fetched."""

import dataclasses

import pytest
import torch

from deeph_zero.ks.protocol import KSData
from deeph_zero.train.store.stored_data import Heavy, StoredData

from ..hydrogen import problem  # noqa: TID252  (tests are no package)

HEAVY = {field.name for field in dataclasses.fields(Heavy)}
LIGHT = [f.name for f in dataclasses.fields(KSData) if f.name not in HEAVY]


@pytest.fixture(scope="module")
def whole():
    return problem().ks


@pytest.fixture
def fetched():
    return []


@pytest.fixture
def stored(whole, fetched):
    heavy = Heavy.of(whole.data)
    return StoredData(whole.data, lambda: fetched.append(True) or heavy)


@pytest.mark.parametrize("name", LIGHT)
def test_what_is_small_is_there_without_the_store(whole, stored, fetched, name):
    wanted, found = getattr(whole.data, name), getattr(stored, name)
    if isinstance(wanted, torch.Tensor):
        assert torch.equal(found, wanted)
    else:
        assert found == wanted
    assert fetched == []


@pytest.mark.parametrize("name", sorted(HEAVY))
def test_what_is_large_is_fetched_each_time(whole, stored, fetched, name):
    assert getattr(stored, name) is getattr(whole.data, name)
    assert fetched == [True]
    getattr(stored, name)
    assert fetched == [True, True], "the store decides what is kept"


def test_all_of_it_can_be_had(whole, stored):
    plain = stored.plain()
    assert isinstance(plain, KSData)
    for field in dataclasses.fields(KSData):
        wanted, found = getattr(whole.data, field.name), getattr(plain, field.name)
        if isinstance(wanted, torch.Tensor):
            assert torch.equal(found, wanted), field.name
        elif field.name in HEAVY:
            assert found is wanted, field.name


def test_a_layer_on_it_builds_the_same(whole, stored):
    dm = whole.data.dm_guess
    one, other = whole.build(dm), whole.on(stored).build(dm)
    assert torch.equal(one.fock, other.fock)
    assert float(one.energy) == float(other.energy)
    for dipole in (whole.dipole(dm), whole.on(stored).dipole(dm)):
        assert torch.equal(dipole, whole.dipole(dm))
