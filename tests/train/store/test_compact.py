"""What waits is small and comes back bit by bit; what it takes is counted once."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from deeph_zero.data.labels import Label
from deeph_zero.nn.balance import Balance
from deeph_zero.nn.packed_inputs import PackedInputs
from deeph_zero.train.store.compact import Waiting, light_bytes, packed, total_bytes

from ..hydrogen import problem  # noqa: TID252  (tests are no package)


def matrix(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("lead", [(), (2,)], ids=["one", "spins"])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_a_symmetric_matrix_waits_as_its_triangle(lead, n):
    m = matrix(*lead, n, n)
    m = m + m.mT
    waiting = Waiting(m)
    assert torch.equal(waiting.matrix(), m)
    assert waiting.nbytes == m.nbytes * (n + 1) // (2 * n)


def test_a_matrix_that_is_nearly_symmetric_waits_whole():
    m = matrix(3, 3)
    m = m + m.mT
    m[0, 1] = torch.nextafter(m[0, 1], torch.tensor(torch.inf, dtype=m.dtype))
    waiting = Waiting(m)
    assert torch.equal(waiting.matrix(), m)
    assert waiting.nbytes == m.nbytes


def test_a_matrix_that_is_not_finite_waits_whole():
    """NaN differs from itself: what is broken stays as broken as it was."""
    m = torch.full((2, 2), torch.nan)
    assert bool(Waiting(m).matrix().isnan().all())


def test_storage_is_counted_once():
    m = matrix(4, 4)
    assert total_bytes(SimpleNamespace(a=m, b=m.mT, c=(m.view(16), matrix(2)), d="text")) == (
        m.nbytes + 16
    )
    assert total_bytes(SimpleNamespace()) == 0


@pytest.fixture(scope="module")
def one():
    return problem()


def test_inputs_are_packed_where_that_is_smaller(one):
    inputs = one.inputs
    found = packed(inputs)
    assert isinstance(found, PackedInputs)
    assert found.nbytes < total_bytes(inputs)
    assert packed(found) is found
    back = found.unpack()
    for field in dataclasses.fields(inputs):
        value = getattr(inputs, field.name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(back, field.name), value), field.name


def test_labels_and_balances_are_counted(one):
    plain = light_bytes(one)
    f = one.fock0
    label = Label(fock=f + 1, dm=f + 2, energy=-1.0, mo_energy=f[0] + 3, mo_occ=f[0] + 4)
    with_label = light_bytes(dataclasses.replace(one, label=label))
    # its own tensors, and the orbitals of its Fock matrix
    assert with_label - plain == 2 * f.nbytes + 2 * f[0].nbytes + f.nbytes
    balance = Balance.of(one.ks.data.ovlp)
    balanced = light_bytes(dataclasses.replace(one, balance=balance))
    assert balanced - plain == total_bytes(balance) > 0
    assert plain > 5 * f.nbytes
