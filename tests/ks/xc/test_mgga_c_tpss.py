"""TPSS correlation: nothing for one electron, PBE where the density varies slowly, the gas."""

import pytest
import torch

from .rows import density_of, energy, energy_density, one_s, uniform_gas

RS = torch.tensor([0.4, 2.0, 9.0], dtype=torch.float64)


@pytest.mark.parametrize("charge", [0.7, 1.0, 6.0])
@pytest.mark.parametrize("spin", [0, 1])
def test_one_electron_does_not_correlate(charge, spin):
    rows, weights = one_s(charge)
    rows = rows if spin == 0 else rows.flip(0)
    assert energy("MGGA_C_TPSS", rows, weights) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("zeta", [None, 0.0, -0.6])
def test_the_gas(zeta):
    rows = uniform_gas(density_of(RS), zeta)
    found, wanted = energy_density("MGGA_C_TPSS", rows), energy_density("LDA_C_PW_MOD", rows)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_fast_electrons_see_pbe():
    """z = tau_W / tau -> 0 leaves PBE correlation, with terms of second order in z."""
    rows, _ = one_s(1.2, 2)
    rows = rows[..., rows[0, 0] > 1e-6]
    rows[:, 4] *= 1e4
    found, pbe = energy_density("MGGA_C_TPSS", rows), energy_density("GGA_C_PBE", rows)
    torch.testing.assert_close(found, pbe, rtol=1e-6, atol=1e-12)


def test_two_electrons_of_a_heavy_nucleus():
    # J. P. Perdew, J. Tao, V. N. Staroverov, G. E. Scuseria, J. Chem. Phys. 120, 6898 (2004):
    # correlation of a dense two-electron atom stays finite, a little below PBE's -0.0479 Eh
    assert energy("MGGA_C_TPSS", *one_s(1e4, 2)) == pytest.approx(-0.0490, abs=1e-4)


def test_spins_change_places():
    rows, _ = one_s(1.1, 2)
    rows[1, :] *= torch.tensor([0.4, 0.2, 0.0, 0.0, 0.9]).double()[:, None]
    rows[1, 3] = 0.3 * rows[0, 0]
    one, other = (energy_density("MGGA_C_TPSS", x) for x in (rows, rows.flip(0)))
    assert float(one.abs().max()) > 1e-3
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-18)
