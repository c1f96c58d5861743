"""Highest filled and lowest empty levels as files and summaries have them."""

import pytest
import torch

from deeph_zero.predict.crystal_record import CrystalState

LEVELS = torch.tensor([[[-0.5, -0.1], [-0.3, 0.2]]], dtype=torch.float64)


def state(levels, occ, fermi, entropy=0.0):
    nothing = torch.zeros(len(levels), 2, 2, 2)
    return CrystalState(
        fock=nothing, dm=nothing, mo_energy=levels, mo_occ=torch.tensor(occ, dtype=torch.float64),
        fermi=fermi, entropy_energy=entropy, energy=None, free_energy=None, converged=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("occ", "fermi", "entropy", "expected"),
    [
        ([[[2, 0], [2, 0]]], -0.2, 0.0, (-0.3, -0.1)),
        # filled in part in order: a metal, whose level is both
        ([[[2, 0], [1, 0]]], -0.3, 0.0, (-0.3, -0.3)),
        # smeared: up to the Fermi level, however little is above
        ([[[2, 0.9], [2, 0.1]]], -0.12, 1e-3, (-0.3, -0.1)),
        ([[[2, 1.1], [2, 0.1]]], -0.08, 1e-3, (-0.1, 0.2)),
    ],
)
def test_levels_on_both_sides_of_the_fermi_level(occ, fermi, entropy, expected):
    found = state(LEVELS, occ, (fermi,), entropy)
    assert found.frontier == pytest.approx(expected)
    assert found.gap == pytest.approx(expected[1] - expected[0])


def test_spins_and_bands_without_an_empty_level():
    both = torch.cat([LEVELS, LEVELS - 0.6])
    # the spins overlap: alpha fills a level above an empty one of beta
    found = state(both, [[[1, 1], [1, 1]], [[1, 0], [1, 0]]], (0.3, -0.8))
    assert found.frontier == pytest.approx((0.2, -0.7))
    assert found.gap == 0.0
    assert state(LEVELS, [[[2, 2], [2, 2]]], (0.2,)).gap is None
