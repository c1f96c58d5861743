"""Exact exchange of a crystal as a term: factors of spin, and points that stand for two."""

import pytest
import torch

from deeph_zero.ks.periodic.terms.exchange import ExchangeTerm
from deeph_zero.ks.periodic.types import weighted_trace
from deeph_zero.ks.terms.term import Density

from ..made_up import WEIGHTS, bloch_matrix, difference  # noqa: TID252

at_k = Density.at_k_points
A = bloch_matrix(seed=11)[0] / 4


def exchange(dm):
    """K_k = Σ_q w_q A_k P_q A_k†: linear, and self-adjoint for one and the same A."""
    return A[0] @ torch.einsum("q,sqij->sij", WEIGHTS.to(dm), dm).unsqueeze(1) @ A[0] + 0 * dm


@pytest.mark.parametrize(("nspin", "share"), [(1, -0.5), (2, -1.0)])
def test_energy_and_matrix(nspin, share):
    dm = bloch_matrix(nspin)
    found = ExchangeTerm(exchange, WEIGHTS).energy_and_fock(at_k(dm))
    torch.testing.assert_close(found.fock, share * exchange(dm))
    wanted = 0.5 * share * float(weighted_trace(WEIGHTS, exchange(dm), dm))
    assert abs(wanted) > 1e-3
    assert float(found.energy) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("real", [None, torch.tensor([True, False, True])], ids=["plain", "half"])
@pytest.mark.parametrize("nspin", [1, 2])
def test_the_matrix_is_the_derivative(nspin, real):
    term = ExchangeTerm(exchange, WEIGHTS, real)
    dm, d = bloch_matrix(nspin), bloch_matrix(nspin, seed=5)
    slope = difference(lambda t: term.energy_and_fock(at_k(dm + t * d)).energy)
    fock = term.energy_and_fock(at_k(dm)).fock
    if real is None:
        assert float(weighted_trace(WEIGHTS, fock, d)) == pytest.approx(float(slope), rel=1e-8)
    else:  # where -k is k a direction counts by its real part
        d = torch.where(real.reshape(-1, 1, 1), d.real.to(d.dtype), d)
        at = torch.where(real.reshape(-1, 1, 1), dm.real.to(d.dtype), dm)
        slope = difference(lambda t: term.energy_and_fock(at_k(at + t * d)).energy)
        fock = term.energy_and_fock(at_k(at)).fock
        assert float(weighted_trace(WEIGHTS, fock, d)) == pytest.approx(float(slope), rel=1e-8)
        assert not fock[:, real].imag.any()
    torch.testing.assert_close(term.response(at_k(dm), at_k(d)), term.matrix(d))
    assert term.second(at_k(dm), at_k(d), at_k(d)) is None


def test_a_closed_shell_is_two_equal_spins():
    term, dm = ExchangeTerm(exchange, WEIGHTS), bloch_matrix()
    one, two = (term.energy_and_fock(at_k(x)) for x in (dm, dm.expand(2, -1, -1, -1) / 2))
    assert float(one.energy) == pytest.approx(float(two.energy), rel=1e-12)
    torch.testing.assert_close(one.fock.expand(2, -1, -1, -1), two.fock)


def test_matrices_elsewhere_are_not_averaged():
    """Other k-points than the density's: -k is not k there."""
    real = torch.tensor([True, True, True])
    dm = bloch_matrix()
    found = ExchangeTerm(exchange, WEIGHTS, real).elsewhere(dm)
    torch.testing.assert_close(found, -0.5 * exchange(dm.real.to(dm.dtype)))
    assert found.imag.any()
