"""Denormal numbers are zero where that was asked for, and only there."""

import pytest
import torch

from deeph_zero.ks.linalg.denormals import flushed_denormals


def denormal():
    return torch.full((3,), 1e-310, dtype=torch.float64).mul_(1.0)


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="the processor cannot")
@pytest.mark.parametrize("asked", [False, True])
def test_what_the_user_asked_of_the_processor_comes_back(asked):
    torch.set_flush_denormal(asked)
    try:
        with flushed_denormals():
            assert float(denormal().sum()) == 0
        assert (float(denormal().sum()) == 0) is asked
    finally:
        torch.set_flush_denormal(False)
