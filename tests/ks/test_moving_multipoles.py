"""How densities follow a matrix and its overlap: against differences."""

import pytest
import torch

from deeph_zero.ks.moving_multipoles import density_change
from deeph_zero.ks.multipoles import Spectrum

NAO = 5
STEP = 1e-4


def symmetric(seed, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    a = scale * torch.randn(NAO, NAO, generator=generator, dtype=torch.float64)
    return a + a.mT


def spectrum(h, ovlp, nelec):
    values, vectors = torch.linalg.eigh(ovlp)
    x = vectors @ (vectors / values.sqrt()).mT
    return Spectrum.of(h, x, nelec, width=0.1)


@pytest.mark.parametrize("nelec", [(2, 2), (3, 1), (5, 2), (1, 0)])
def test_densities_follow_matrix_and_overlap(nelec):
    """Electron numbers are kept: the chemical potentials move along."""
    h, dh = symmetric(1, 0.2), symmetric(2, 0.2)
    ovlp = torch.eye(NAO, dtype=torch.float64) + symmetric(3, 0.05)
    dovlp = symmetric(4, 0.1)
    points = [
        spectrum(h + t * STEP * dh, ovlp + t * STEP * dovlp, nelec).densities()
        for t in (1, -1, 2, -2)
    ]
    wanted = (8 * (points[0] - points[1]) - (points[2] - points[3])) / (12 * STEP)
    found = density_change(spectrum(h, ovlp, nelec), dh, dovlp)
    assert float(wanted[0].abs().max()) > 0.1
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-9)
    dm = spectrum(h, ovlp, nelec).densities()
    change = torch.einsum("sij,ji->s", found, ovlp) + torch.einsum("sij,ji->s", dm, dovlp)
    torch.testing.assert_close(change, torch.zeros_like(change), rtol=0, atol=1e-12)
