"""Levels and orbitals in orthonormal bases at every k."""

import pytest
import scipy.linalg
import torch

from deeph_zero.errors import InputError
from deeph_zero.ks.periodic.orthogonalise import BlochOrthogonaliser


def hermitian(seed, shift=0.0):
    torch.manual_seed(seed)
    a = torch.randn(2, 3, 3, dtype=torch.complex128)
    return a @ a.mH + shift * torch.eye(3)


def test_levels_and_orbitals_solve_the_generalised_problem():
    ovlp, fock = hermitian(0, 0.5), torch.stack([hermitian(1), hermitian(2)])
    basis = BlochOrthogonaliser(ovlp, 1e-6)
    energies, coeff = basis.orbitals(fock)
    torch.testing.assert_close(basis.levels(fock), energies)
    for spin, k in ((0, 0), (0, 1), (1, 0), (1, 1)):
        expected = scipy.linalg.eigh(fock[spin, k].numpy(), ovlp[k].numpy(), eigvals_only=True)
        torch.testing.assert_close(energies[spin, k], torch.from_numpy(expected))
    torch.testing.assert_close(fock @ coeff, ovlp @ coeff * energies.unsqueeze(-2))


def test_what_is_left_out_has_no_finite_level():
    s = torch.diag(torch.tensor([1e-5, 1.0, 2.0], dtype=torch.float64))
    ovlp = torch.stack([s, torch.eye(3, dtype=torch.float64)])
    fock = torch.eye(3, dtype=torch.float64).expand(1, 2, 3, 3)
    (found,) = BlochOrthogonaliser(ovlp, 1e-3).levels(fock)
    assert found.tolist() == [
        [pytest.approx(0.5), pytest.approx(1.0), float("inf")],
        [pytest.approx(1.0)] * 3,
    ]


def test_a_singular_overlap_is_refused():
    ovlp = torch.diag(torch.tensor([1e-9, 1.0], dtype=torch.float64))[None]
    with pytest.raises(InputError, match="overlap with eigenvalues above"):
        BlochOrthogonaliser(ovlp, 1e-6)
