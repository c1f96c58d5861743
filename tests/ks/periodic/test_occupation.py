"""Filling of levels at k-points of unlike weight, in order and smeared."""

import math

import pytest
import torch

from deeph_zero.errors import InputError
from deeph_zero.ks.periodic.occupation import channels, fill

WEIGHTS = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
LEVELS = torch.tensor(
    [[[-0.9, 0.2, 0.8], [-0.7, -0.1, 0.9], [-0.8, 0.3, 1.1]]], dtype=torch.float64
)
TWO = torch.cat([LEVELS, LEVELS + 0.15])


def filled(levels, nelec, *, smearing=0.0, fix_spin=False, tol=1e-6):
    own = channels(nelec, unrestricted=len(levels) == 2, smearing=smearing, fix_spin=fix_spin)
    return fill(levels, WEIGHTS, own, smearing=smearing, degeneracy_tol=tol)


def electrons(found):
    return (found.occ * WEIGHTS.unsqueeze(-1)).sum((-2, -1)).tolist()


def test_levels_fill_in_order_over_all_k():
    found = filled(LEVELS, (1.0, 1.0))
    assert found.occ[0].tolist() == [[2, 0, 0], [2, 0, 0], [2, 0, 0]]
    assert found.gap == pytest.approx(0.6)  # from -0.7 to -0.1
    assert found.fermi == pytest.approx((-0.4,))
    metal = filled(LEVELS, (1.5, 1.5))  # the second band of the heavy k alone
    assert metal.occ[0].tolist() == [[2, 0, 0], [2, 2, 0], [2, 0, 0]]
    assert metal.gap == pytest.approx(0.3)


def test_a_level_may_be_filled_in_part():
    found = filled(LEVELS, (1.2, 1.2))
    assert found.occ[0, 1].tolist() == pytest.approx([2, 0.8, 0])
    assert found.gap == 0.0
    assert found.degenerate
    assert electrons(found) == pytest.approx([2.4])


def test_levels_that_touch_share_evenly_by_weight():
    levels = LEVELS.clone()
    levels[0, 1, 1] = levels[0, 0, 1] + 1e-9
    found = filled(levels, (1.375, 1.375))
    assert found.occ[0, :, 1].tolist() == pytest.approx([1.0, 1.0, 0.0])
    assert electrons(found) == pytest.approx([2.75])
    apart = filled(levels, (1.375, 1.375), tol=0.0)
    assert apart.occ[0, :, 1].tolist() == pytest.approx([2.0, 0.5, 0.0])


def test_spins_share_a_level_only_when_smeared_and_free():
    found = filled(TWO, (1.0, 1.0), smearing=0.05)
    assert found.fermi[0] == found.fermi[1]
    up, down = electrons(found)
    assert up > down + 0.005
    assert up + down == pytest.approx(2.0, abs=1e-9)
    fixed = filled(TWO, (1.0, 1.0), smearing=0.05, fix_spin=True)
    assert electrons(fixed) == pytest.approx([1.0, 1.0], abs=1e-9)
    assert fixed.fermi[1] - fixed.fermi[0] == pytest.approx(0.15, abs=1e-9)
    assert electrons(filled(TWO, (1.5, 1.0))) == pytest.approx([1.5, 1.0])


def test_smearing_is_fermis_and_its_entropy():
    found = filled(LEVELS, (1.3, 1.3), smearing=0.03)
    f = 1 / (1 + torch.exp((LEVELS - found.fermi[0]) / 0.03))
    torch.testing.assert_close(found.occ, 2 * f, rtol=0, atol=1e-10)
    each = [-x * math.log(x) - (1 - x) * math.log1p(-x) if 0 < x < 1 else 0.0
            for x in f.reshape(-1).tolist()]  # fmt: skip
    share = WEIGHTS.repeat_interleave(3)
    wanted = 2 * 0.03 * float((share * torch.tensor(each, dtype=torch.float64)).sum())
    assert wanted > 1e-3
    assert found.entropy_energy == pytest.approx(wanted, rel=1e-9)


def test_more_electrons_than_orbitals_are_refused():
    full = filled(LEVELS, (3.0, 3.0))
    assert full.gap == math.inf
    with pytest.raises(InputError, match=r"at most 3 electrons of one spin .* got 3.5"):
        filled(LEVELS, (3.5, 3.5))


@pytest.mark.parametrize("smearing", [0.0, 0.005])
def test_the_gap_is_that_of_the_levels_on_both_sides(smearing):
    found = filled(LEVELS, (1.0, 1.0), smearing=smearing)
    assert found.gap == pytest.approx(0.6)
    assert -0.7 < found.fermi[0] < -0.1
