"""The response of independent electrons of a crystal, and the step that it leads to."""

import pytest
import torch

from deeph_zero.ks.periodic.dielectric import Pairs, dielectric_step
from deeph_zero.ks.periodic.types import weighted_trace


def test_pairs_are_a_root_of_the_response(beside):
    """Of independent electrons: tr(V χ V) of differences of densities, electrons kept."""
    ks, done, fock, _ = beside
    pairs, change = Pairs(ks, ks.bands(done.fock)), fock - done.fock
    step = 1e-4
    ends = [ks.density(done.fock + t * step * change) for t in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * step)
    along = pairs.of(change)
    torch.testing.assert_close(-pairs.density(along), slope, rtol=0, atol=1e-6)
    wanted = -float(weighted_trace(ks.data.weights, change, slope))
    assert wanted > 1e-6
    assert float(pairs.dot(along, along)) == pytest.approx(wanted, rel=1e-4)
    packed = pairs.packed(along)
    torch.testing.assert_close(pairs.unpacked(packed), along)


def test_the_dielectric_step_takes_out_most_of_the_error(beside):
    ks, done, _, built = beside
    step = dielectric_step(ks, ks.data.step_coulomb(), built.fock, built.dm)
    plain = ks.build(ks.density(built.fock)).energy - ks.entropy_energy(built.fock)
    moved = ks.build(ks.density(built.fock + step)).energy - ks.entropy_energy(built.fock + step)
    assert 0 < float(moved) - done.free_energy < 0.5 * (float(plain) - done.free_energy)
