"""Inner products over k, and potentials that are a crystal's convention."""

import pytest
import torch

from deeph_zero.ks.periodic.types import weighted_trace, without_potential

from .made_up import WEIGHTS, bloch_matrix


@pytest.mark.parametrize("nspin", [1, 2])
def test_traces_add_spins_and_weigh_k_points(nspin):
    a, b = bloch_matrix(nspin), bloch_matrix(nspin, seed=3)
    wanted = 0.0
    for s in range(nspin):
        for k, w in enumerate(WEIGHTS.tolist()):
            wanted += w * float(torch.trace(a[s, k] @ b[s, k]).real)
    assert float(weighted_trace(WEIGHTS, a, b)) == pytest.approx(wanted, rel=1e-13)
    assert float(weighted_trace(WEIGHTS, b, a)) == pytest.approx(wanted, rel=1e-13)


def test_an_operator_without_spin_meets_both():
    h, dm = bloch_matrix()[0], bloch_matrix(2, seed=4)
    both = weighted_trace(WEIGHTS, h.expand(2, -1, -1, -1), dm)
    assert float(weighted_trace(WEIGHTS, h, dm)) == pytest.approx(float(both), rel=1e-13)
    assert weighted_trace(WEIGHTS, h.real, dm.real).dtype == torch.float64


@pytest.mark.parametrize("nspin", [1, 2])
def test_a_constant_potential_is_taken_out(nspin):
    """ΔH + c S gives what ΔH gives, and no other c leaves less."""
    change, a = bloch_matrix(nspin), bloch_matrix(seed=5)[0]
    ovlp = a @ a.mH + torch.eye(3)
    found = without_potential(WEIGHTS, change, ovlp)
    torch.testing.assert_close(without_potential(WEIGHTS, change + 0.7 * ovlp, ovlp), found)

    def size(c):
        rest = found - c * ovlp
        return float(weighted_trace(WEIGHTS, rest, rest))

    assert size(0.0) < min(size(1e-2), size(-1e-2))
    shift = (change - found)[0] / ovlp
    torch.testing.assert_close(shift, torch.full_like(shift, complex(shift[0, 0, 0])))
