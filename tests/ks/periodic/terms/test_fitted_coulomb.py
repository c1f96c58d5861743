"""Coulomb energy by density fitting at k-points: the sums that define it, and signs."""

import pytest
import torch

from deeph_zero.ks.periodic.step_coulomb import StepCoulomb
from deeph_zero.ks.periodic.terms.fitted_coulomb import FittedCoulomb
from deeph_zero.ks.periodic.types import weighted_trace
from deeph_zero.ks.terms.term import Density

from ..made_up import WEIGHTS, bloch_matrix, difference, random  # noqa: TID252

at_k = Density.at_k_points
NAUX = 5
SIGNS = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0], dtype=torch.float64)


def tensors(*, hermitian=True):
    out = [torch.complex(*random(2, NAUX, 3, 3, seed=20 + k)) for k in range(3)]
    return [t + t.mH for t in out] if hermitian else out


@pytest.fixture
def term():
    return FittedCoulomb(tensors(), SIGNS, WEIGHTS)


@pytest.mark.parametrize("nspin", [1, 2])
def test_energy_is_the_signed_sum_of_squares(term, nspin):
    dm = bloch_matrix(nspin)
    wanted = 0.0
    for q in range(NAUX):
        rho = sum(
            w * torch.trace(t[q] @ dm[:, k].sum(0)).real
            for k, (w, t) in enumerate(zip(WEIGHTS.tolist(), tensors(), strict=True))
        )
        wanted += 0.5 * float(SIGNS[q]) * float(rho) ** 2
    found = term.energy_and_fock(at_k(dm))
    assert float(found.energy) == pytest.approx(wanted, rel=1e-12)
    assert found.fock.shape == dm.shape
    assert torch.equal(found.fock[0], found.fock[-1])  # both spins feel the same


@pytest.mark.parametrize("nspin", [1, 2])
def test_matrices_are_derivatives(term, nspin):
    dm, d, other = (bloch_matrix(nspin, seed=s) for s in (0, 3, 4))
    slope = difference(lambda t: term.energy_and_fock(at_k(dm + t * d)).energy)
    fock = term.energy_and_fock(at_k(dm)).fock
    assert float(weighted_trace(WEIGHTS, fock, d)) == pytest.approx(float(slope), rel=1e-8)
    change = term.response(at_k(dm), at_k(d))
    torch.testing.assert_close(
        change,
        difference(lambda t: term.energy_and_fock(at_k(dm + t * d)).fock),
        rtol=1e-8,
        atol=1e-8,
    )
    back = term.response(at_k(dm), at_k(other))
    assert float(weighted_trace(WEIGHTS, change, other)) == pytest.approx(
        float(weighted_trace(WEIGHTS, back, d)), rel=1e-11
    )
    assert term.second(at_k(dm), at_k(d), at_k(other)) is None


def test_it_guides_an_scf_as_the_mesh_does(term):
    """Numbers of each spin by itself, and matrices of them."""
    assert isinstance(term, StepCoulomb)
    dm = bloch_matrix(2)
    rows = term(dm)
    assert rows.shape == (2, 1, NAUX)
    whole = term.matrices(rows.sum(0, keepdim=True), torch.complex128)
    torch.testing.assert_close(whole.expand_as(dm), term.energy_and_fock(at_k(dm)).fock)


def test_real_matrices_stay_real():
    real = [t.real.contiguous() for t in tensors()]
    term = FittedCoulomb(real, SIGNS, WEIGHTS)
    found = term.energy_and_fock(at_k(bloch_matrix().real))
    assert found.fock.dtype == torch.float64
    assert float(found.fock.abs().max()) > 0
