"""M06-L exchange: the gas exactly, PBE's part, and van Voorhis and Scuseria's form."""

import pytest
import torch

from deeph_zero.ks.xc import mgga_x_m06l
from deeph_zero.ks.xc.mgga_x_m06l import vs98

from .rows import energy, energy_density, one_s, uniform_gas

DENSITY = torch.tensor([0.01, 0.7, 30.0], dtype=torch.float64)


def test_the_gas_has_no_enhancement():
    """a_0 + d_0 = 1, a constraint of the fit."""
    rows = uniform_gas(DENSITY)
    found, wanted = energy_density("MGGA_X_M06_L", rows), energy_density("LDA_X", rows)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_vs98_is_the_printed_form():
    d = (0.6, -0.2, 0.05, 0.003, -0.007, 0.002)
    alpha, x2, z = (
        0.02,
        torch.tensor([0.0, 3.0, 90.0]).double(),
        torch.tensor([0.0, -1.5, 8.0]).double(),
    )
    g = 1 + alpha * (x2 + z)
    wanted = d[0] / g + (d[1] * x2 + d[2] * z) / g**2
    wanted = wanted + (d[3] * x2**2 + d[4] * x2 * z + d[5] * z**2) / g**3
    torch.testing.assert_close(vs98(d, alpha, x2, z), wanted, rtol=1e-13, atol=0)


@pytest.mark.parametrize(("share", "sign"), [(1e6, -1.0), (1e-9, 1.0)])
def test_fast_and_slow_electrons_end_the_series(share, sign):
    """w = (tau_unif - tau) / (tau_unif + tau) is -1 or 1 there; h is known beside it."""
    rows = uniform_gas(DENSITY)
    rows[0, 4] *= share
    found = energy_density("MGGA_X_M06_L", rows) / energy_density("LDA_X", rows)
    series = sum(c * sign**i for i, c in enumerate(mgga_x_m06l._W))
    t = 2 ** (2 / 3) * rows[0, 4] / DENSITY ** (5 / 3)
    z = 2 * (t - mgga_x_m06l.TAU_UNIFORM_SPIN)
    h = vs98(mgga_x_m06l._D, mgga_x_m06l.ALPHA, torch.zeros_like(z), z)
    torch.testing.assert_close(found, series + h, rtol=1e-4, atol=1e-4)


def test_atoms_of_one_orbital():
    """No norm of its fit: within a few percent of -5 Z / 16 for each electron."""
    assert energy("MGGA_X_M06_L", *one_s()) == pytest.approx(-0.3125, rel=0.03)
    rows, weights = one_s(1.0, 2)
    pair = energy("MGGA_X_M06_L", rows, weights)
    assert pair == pytest.approx(2 * energy("MGGA_X_M06_L", *one_s()), rel=1e-12)
