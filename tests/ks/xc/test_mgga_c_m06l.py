"""M06-L correlation: the gas exactly, and nothing for one electron."""

import pytest
import torch

from .rows import density_of, energy, energy_density, one_s, uniform_gas

RS = torch.tensor([0.4, 2.0, 9.0], dtype=torch.float64)


@pytest.mark.parametrize("zeta", [None, 0.0, -0.6])
def test_the_gas(zeta):
    """c_0 + d_0 = 1 inside a channel and between them, a constraint of the fit."""
    rows = uniform_gas(density_of(RS), zeta)
    found, wanted = energy_density("MGGA_C_M06_L", rows), energy_density("LDA_C_PW_MOD", rows)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=0)


@pytest.mark.parametrize("spin", [0, 1])
def test_one_electron_does_not_correlate(spin):
    rows, weights = one_s()
    rows = rows if spin == 0 else rows.flip(0)
    assert energy("MGGA_C_M06_L", rows, weights) == pytest.approx(0, abs=1e-8)


def test_opposite_spins_alone_correlate_in_one_orbital():
    """tau = tau_W removes both channels' own part; more tau brings it back."""
    rows, weights = one_s(1.6875, 2)
    found = energy("MGGA_C_M06_L", rows, weights)
    assert -0.045 < found < -0.035  # helium: -0.042 Eh
    more = rows.clone()
    more[:, 4] *= 1.5
    assert energy("MGGA_C_M06_L", more, weights) != pytest.approx(found, abs=1e-3)


def test_spins_change_places():
    rows, _ = one_s(1.1, 2)
    rows[1, :] *= torch.tensor([0.4, 0.2, 0.0, 0.0, 0.9]).double()[:, None]
    one, other = (energy_density("MGGA_C_M06_L", x) for x in (rows, rows.flip(0)))
    assert float(one.abs().max()) > 1e-3
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-18)
