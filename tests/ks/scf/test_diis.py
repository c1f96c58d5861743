"""Pulay's extrapolation."""

import pytest
import torch

from deeph_zero.ks.scf.diis import DIIS


def test_the_expected_error_is_of_what_is_remembered():
    """A memory address that comes back is another matrix."""
    diis = DIIS(2)
    for size in (3.0, 2.0, 5.0):
        diis.clear()
        diis.add(torch.eye(2), torch.full((2, 2), size))
        assert diis.expected_error() == pytest.approx(2 * size, rel=1e-12)
    diis.add(torch.eye(2), torch.full((2, 2), -5.0))
    assert diis.expected_error() == pytest.approx(0.0, abs=1e-6)
    diis.keep_last()
    assert diis.expected_error() == pytest.approx(10.0, rel=1e-12)
    diis.add(torch.eye(2), torch.eye(2))
    diis.add(torch.eye(2), torch.full((2, 2), 1.0) - torch.eye(2))  # the oldest goes
    assert diis.expected_error() == pytest.approx(1.0, rel=1e-12)  # half of each
