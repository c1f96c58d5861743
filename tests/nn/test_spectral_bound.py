"""Corrections kept within the size that corrections have: nothing else changes."""

import pytest
import torch
from pyscf import gto

from deeph_zero.kohnsham import KohnSham
from deeph_zero.nn.spectral_bound import LEAST, MARGIN, bounded, eigenvalue_range
from deeph_zero.testing import WATER


@pytest.fixture(scope="module", params=["closed shell", "open shell", "dependent basis"])
def ks(request):
    atom, basis, spin = {
        "closed shell": (WATER, "6-31g", 0),
        "open shell": ("N 0 0 0; H .1 0 1.03; H .93 .35 -.2", "6-31g", 1),
        # X has fewer columns than rows
        "dependent basis": ("He 0 0 0; He 0 0 .3; He 0 .3 .1", "aug-cc-pvtz", 0),
    }[request.param]
    return KohnSham.from_pyscf(gto.M(atom=atom, basis=basis, spin=spin, verbose=0), grid_level=0)


def correction(ks):
    """F of an SCF's first steps minus F of superposed atoms."""
    first = ks.build(ks.data.dm_guess).fock
    return ks.build(ks.density(first)).fock - first


def test_one_within_the_range_is_the_very_same(ks):
    delta = correction(ks)
    seen = eigenvalue_range(delta, ks.x)
    assert bounded(delta, ks.x, ks.data.ovlp, seen) is delta


def test_without_a_range_nothing_happens(ks):
    delta = 100 * correction(ks)
    assert bounded(delta, ks.x, ks.data.ovlp, (1e6, -1e6)) is delta


def test_an_outlying_eigenvalue_moves_to_the_bound_and_no_other_does(ks):
    delta = correction(ks)
    low, high = eigenvalue_range(delta, ks.x)
    spare = max(MARGIN * (high - low), LEAST)
    direction = ks.data.ovlp @ ks.x[:, 3:4]
    wrong = delta - 7.0 * direction @ direction.mT
    found = bounded(wrong, ks.x, ks.data.ovlp, (low, high))
    torch.testing.assert_close(found, found.mT, atol=1e-12, rtol=0)
    levels = torch.linalg.eigvalsh(ks.x.mT @ found @ ks.x)
    raw = torch.linalg.eigvalsh(ks.x.mT @ wrong @ ks.x)
    assert float(raw.min()) < low - 1
    torch.testing.assert_close(levels, raw.clamp(low - spare, high + spare), atol=1e-8, rtol=0)


def test_a_false_level_is_not_occupied(ks):
    """An error of some mEh per element along the softest direction of S is a level far below."""
    exact = ks.scf(conv_tol=1e-9).fock
    first = ks.build(ks.data.dm_guess).fock
    seen = eigenvalue_range(exact - first, ks.x)
    orbitals = ks.orbitals(exact)
    soft = ks.data.ovlp @ orbitals.mo_coeff[..., :, -1:]
    depth = float(orbitals.mo_energy.max() - orbitals.mo_energy.min()) + 3.0
    wrong = exact - first - depth * soft @ soft.mT
    right = ks.density(first + bounded(wrong, ks.x, ks.data.ovlp, seen))
    lost = ks.density(first + wrong)
    want = ks.density(exact)
    assert float((lost - want).norm()) > 0.3
    assert float((right - want).norm()) < 0.2 * float((lost - want).norm())


def test_what_is_not_finite_is_left_to_those_who_report_it(ks):
    delta = correction(ks)
    delta[..., 0, 0] = float("nan")
    assert bounded(delta, ks.x, ks.data.ovlp, (-0.1, 0.1)) is delta
