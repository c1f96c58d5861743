"""Density from Fock: value, first and second derivatives, degenerate spectra included."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from deeph_zero.ks.density import density_matrix, divided_difference
from deeph_zero.ks.occupation import aufbau, occupations


def density(fock, nelec, tol=1e-4):
    fock = 0.5 * (fock + fock.mT)
    with torch.no_grad():
        energy, vectors = torch.linalg.eigh(fock)
        occ, _ = occupations(energy, nelec, tol)
    return density_matrix(fock, energy, vectors, occ)


def spin_axis(*channels):
    return torch.stack(channels)


def fock_with_levels(levels, rng):
    q, _ = torch.linalg.qr(
        torch.randn(len(levels), len(levels), generator=rng, dtype=torch.float64)
    )
    return (q * torch.tensor(levels, dtype=torch.float64)) @ q.mT


LEVELS = {
    "plain": ([-1.0, -0.4, 0.3, 0.9, 1.3], (2, 2)),
    "occupied and virtual degeneracy": ([-0.7, -0.7, 0.4, 0.4, 0.4], (2, 2)),
    "half-filled degenerate frontier": ([-1.0, -0.2, -0.2, 0.5, 0.5], (2, 2)),
    "one third filled": ([-1.0, -0.2, -0.2, -0.2, 0.5], (2, 2)),
    "all occupied": ([-1.0, -0.5, -0.5], (3, 3)),
}


@pytest.mark.parametrize("case", LEVELS)
def test_first_and_second_derivatives_are_exact_within_occupied_and_virtual_degeneracy(case, rng):
    levels, nelec = LEVELS[case]
    # A fractional level is symmetric only as long as it stays degenerate: perturbations that split
    # it change the occupations themselves, so those cases move only inside that symmetry.
    fock = spin_axis(fock_with_levels(levels, rng))
    if "frontier" in case or "third" in case:
        _, u = torch.linalg.eigh(fock)
        occ, _ = occupations(torch.linalg.eigvalsh(fock), nelec, 1e-4)
        frac = (occ > 0) & (occ < 2)

        def fn(shift):
            # shifts whole levels apart and mixes occupied with virtual orbitals
            mix = torch.where(frac.unsqueeze(-1) | frac.unsqueeze(-2), 0.0, 1.0)
            sym = 0.5 * (shift + shift.mT) * mix
            return density(fock + u @ sym @ u.mT, nelec)

        start = torch.zeros_like(fock).requires_grad_()
        assert gradcheck(fn, start, atol=1e-7)
        assert gradgradcheck(fn, start, atol=1e-6)
        return
    fock.requires_grad_()
    assert gradcheck(lambda f: density(f, nelec), fock, atol=1e-7)
    assert gradgradcheck(lambda f: density(f, nelec), fock, atol=1e-6)


def test_unrestricted_channels_are_independent(rng):
    fock = spin_axis(*(fock_with_levels([-1.0, -0.4, 0.3, 0.9], rng) for _ in range(2)))
    fock.requires_grad_()
    assert gradcheck(lambda f: density(f, (3, 1)), fock, atol=1e-7)
    assert gradgradcheck(lambda f: density(f, (3, 1)), fock, atol=1e-6)
    p = density(fock, (3, 1))
    trace = torch.diagonal(p, dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(trace, torch.tensor([3.0, 1.0], dtype=torch.float64))


def test_closing_gap_stays_finite(rng):
    fock = spin_axis(fock_with_levels([-1.0, 0.1, 0.1 + 1e-12, 0.9], rng)).requires_grad_()
    (grad,) = torch.autograd.grad(density(fock, (2, 2), tol=0.0)[0, 0, 1], fock)
    assert torch.isfinite(grad).all()


def test_divided_difference_signs():
    e = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    w = divided_difference(e, torch.tensor([2.0, 2.0, 0.0], dtype=torch.float64))
    want = torch.tensor([[0, 0, -2 / 3], [0, 0, -1.0], [-2 / 3, -1.0, 0]], dtype=torch.float64)
    torch.testing.assert_close(w, want)


@pytest.mark.parametrize(
    ("levels", "nocc", "want"),
    [
        ([-1.0, 0.0, 1.0], 2, [1, 1, 0]),
        ([-1.0, 0.0, 0.0], 2, [1, 0.5, 0.5]),
        ([0.0, 0.0, 0.0, 1.0], 1, [1 / 3, 1 / 3, 1 / 3, 0]),
        ([0.0, 0.0], 2, [1, 1]),
        ([0.0, 1.0], 0, [0, 0]),
    ],
)
def test_aufbau_fills_degenerate_frontier_evenly(levels, nocc, want):
    occ, degenerate = aufbau(torch.tensor(levels, dtype=torch.float64), nocc, 1e-4)
    assert occ.tolist() == pytest.approx(want)
    assert degenerate == any(0 < f < 1 for f in want)
    integer, flag = aufbau(torch.tensor(levels, dtype=torch.float64), nocc, 0.0)
    assert sorted(set(integer.tolist())) in ([0.0], [1.0], [0.0, 1.0])
    assert not flag
