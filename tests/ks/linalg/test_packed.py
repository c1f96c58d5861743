"""Triangles: the same matrices back, and the same inner products."""

import pytest
import torch

from deeph_zero.ks.linalg.packed import pack_antisymmetric, pack_symmetric, unpack_symmetric
from deeph_zero.ks.scf.diis import DIIS


def matrices(lead, sign, n=5):
    m = torch.randn(4, *lead, n, n, generator=torch.Generator().manual_seed(3)).double()
    return m + sign * m.mT


@pytest.mark.parametrize("lead", [(), (2,)])
def test_triangles_come_back(lead):
    for m in matrices(lead, 1.0):
        packed = pack_symmetric(m)
        assert packed.shape == (*lead, 15)
        assert torch.equal(unpack_symmetric(packed), m)


@pytest.mark.parametrize("lead", [(), (2,)])
def test_extrapolation_is_that_of_whole_matrices(lead):
    whole, packed = DIIS(), DIIS()
    for fock, error in zip(matrices(lead, 1.0), matrices(lead, -1.0), strict=True):
        whole.add(fock, error)
        packed.add(pack_symmetric(fock), pack_antisymmetric(error))
    again = unpack_symmetric(packed.extrapolate())
    torch.testing.assert_close(again, whole.extrapolate(), rtol=0, atol=1e-12)
    assert packed.expected_error() == pytest.approx(whole.expected_error(), rel=1e-12)


def test_the_newest_build_stays():
    diis = DIIS()
    for fock, error in zip(matrices((), 1.0), matrices((), -1.0), strict=True):
        diis.add(pack_symmetric(fock), pack_antisymmetric(error))
    last = diis.focks[-1]
    diis.keep_last()
    assert len(diis) == 1
    assert torch.equal(diis.extrapolate(), last)
