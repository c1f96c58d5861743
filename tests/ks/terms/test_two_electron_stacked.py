"""J and K of stacks: each molecule's own, in pieces as whole, shared where they are the same."""

import pytest
import torch

from deeph_zero.ks.terms import two_electron_stacked
from deeph_zero.ks.terms.padding import Padding
from deeph_zero.ks.terms.two_electron import FittedTensor, FourCentre
from deeph_zero.ks.terms.two_electron_stacked import StackedOperator, stacked_operator

from ..made_up import random  # noqa: TID252  (tests are no package)

NAOS = (5, 3, 1)


def symmetric(n, nspin=2, seed=3):
    a = random(nspin, n, n, seed=seed)
    return a + a.mT


@pytest.fixture
def parts(operator):
    """Of unlike numbers of orbitals and of fitting functions."""
    return [operator(n, naux, seed=n)[0] for n, naux in zip(NAOS, (9, 4, 2), strict=True)]


def assert_each_alone(stack, parts, padding, nspin=2):
    dms = [symmetric(n, nspin, seed=30 + n) for n in padding.naos]
    for name in ("coulomb", "exchange"):
        found = getattr(stack, name)(padding.stack(dms))
        for k, (part, dm, n) in enumerate(zip(parts, dms, padding.naos, strict=True)):
            torch.testing.assert_close(found[k, :, :n, :n], getattr(part, name)(dm))
            assert not found[k, :, n:].any()
            assert not found[k, ..., n:].any()


@pytest.mark.parametrize("nspin", [1, 2])
@pytest.mark.parametrize("nao", [5, 7])
def test_a_stack_is_its_molecules(parts, nspin, nao):
    """Padded to the largest of them, or further."""
    padding = Padding(NAOS, nao)
    assert_each_alone(StackedOperator(parts, padding), parts, padding, nspin)


@pytest.mark.parametrize("chunk_mb", [1e-9, 3e-3])
def test_pieces_of_k_are_the_whole(parts, chunk_mb, monkeypatch):
    monkeypatch.setattr(two_electron_stacked, "CHUNK_MB", chunk_mb)
    padding = Padding(NAOS)
    stack = StackedOperator(parts, padding)
    assert len(stack._unpacked()) > 1
    assert_each_alone(stack, parts, padding)


def test_exact_integrals_are_asked_for_one_by_one(parts):
    """Not all of them are fitted tensors."""
    packed = parts[1].cderi
    mixed = [parts[0], FourCentre(packed.mT @ packed, 3), parts[2]]
    padding = Padding(NAOS)
    assert_each_alone(StackedOperator(mixed, padding), parts, padding)


def test_single_precision_is_stacked_in_double(parts):
    rounded = [FittedTensor(part.cderi.float(), part.nao) for part in parts]
    padding = Padding(NAOS)
    stack = StackedOperator(rounded, padding)
    found = stack.exchange(padding.stack([symmetric(n) for n in NAOS]))
    assert found.dtype == torch.float64
    assert_each_alone(stack, rounded, padding)


def test_the_same_integrals_are_kept_once(parts):
    padding = Padding(NAOS)
    one = stacked_operator(parts, padding)
    assert stacked_operator(list(parts), padding) is one
    assert stacked_operator(parts[::-1], Padding(NAOS[::-1])) is not one
    other = [parts[0], parts[1], FittedTensor(parts[2].cderi, 1)]
    assert stacked_operator(other, padding) is not one
    assert len(padding.shared) == 2
