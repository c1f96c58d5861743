"""Operators that no density changes, with and without a spin axis of their own."""

import pytest
import torch

from deeph_zero.ks.periodic.terms.fixed_operator import FixedOperator
from deeph_zero.ks.periodic.types import weighted_trace
from deeph_zero.ks.terms.term import Density

from ..made_up import WEIGHTS, bloch_matrix  # noqa: TID252

at_k = Density.at_k_points


@pytest.mark.parametrize("nspin", [1, 2])
def test_both_spins_feel_one_operator(nspin):
    h, dm = bloch_matrix(seed=2)[0], bloch_matrix(nspin)
    found = FixedOperator("kinetic", h, WEIGHTS).energy_and_fock(at_k(dm))
    assert float(found.energy) == pytest.approx(float(weighted_trace(WEIGHTS, h, dm)), rel=1e-13)
    assert torch.equal(found.fock, h.expand(nspin, -1, -1, -1))


def test_spins_may_feel_different_ones():
    h, dm = bloch_matrix(2, seed=2), bloch_matrix(2)
    term = FixedOperator("shift", h, WEIGHTS)
    found = term.energy_and_fock(at_k(dm))
    each = [weighted_trace(WEIGHTS, h[s], dm[s]) for s in (0, 1)]
    assert float(found.energy) == pytest.approx(float(sum(each)), rel=1e-12)
    assert torch.equal(found.fock, h)
    assert term.response(at_k(dm), at_k(dm)) is None
    assert term.name == "shift"


def test_the_matrix_has_the_densitys_numbers():
    """Where Γ is the only k matrices are real."""
    h = bloch_matrix(seed=2)[0].real
    found = FixedOperator("kinetic", h, WEIGHTS).energy_and_fock(at_k(bloch_matrix().real))
    assert found.fock.dtype == torch.float64
    mixed = FixedOperator("kinetic", h, WEIGHTS).energy_and_fock(at_k(bloch_matrix()))
    assert mixed.fock.dtype == torch.complex128
