"""r2SCAN exchange: SCAN's norms kept, and a switch without SCAN's sharp corner."""

import pytest
import torch

from deeph_zero.ks.xc.mgga_x_r2scan import ALPHA_JOIN, EXCHANGE_SMOOTH_SWITCH
from deeph_zero.ks.xc.mgga_x_scan import EXCHANGE_SWITCH

from .rows import energy, energy_density, enhancement, one_s, slope_of, uniform_gas

SWITCH = EXCHANGE_SMOOTH_SWITCH


def test_one_orbital_is_scans():
    rows, weights = one_s(1.7, 2)
    found, scan = (energy_density(f"MGGA_X_{name}", rows) for name in ("R2SCAN", "SCAN"))
    inside = rows[0, 0] > 1e-8
    torch.testing.assert_close(found[inside], scan[inside], rtol=1e-6, atol=0)
    assert energy("MGGA_X_R2SCAN", *one_s()) == pytest.approx(-0.3125, rel=1e-5)
    assert float(weights.sum()) > 0


def test_the_gas_has_no_enhancement():
    """The polynomial's printed digits vanish at alpha = 1 to 1e-12."""
    rows = uniform_gas(torch.tensor([0.01, 0.7, 30.0], dtype=torch.float64))
    found, wanted = energy_density("MGGA_X_R2SCAN", rows), energy_density("LDA_X", rows)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=0)


def test_slow_densities_have_the_gradient_expansion():
    """10/81 s^2 where tau is that of the gas and its own tau_W: alpha = 1."""
    s = torch.tensor([0.02, 0.03], dtype=torch.float64)
    found = (enhancement("MGGA_X_R2SCAN", s) - 1) / s**2
    # at alpha = 1 what remains is the switch's slope times eta's part: eq. (S10)
    c_eta = 20 / 27 + 0.001 * 5 / 3
    c2 = -SWITCH.slope_at_one * (1 - 1.174)
    rest = SWITCH.slope_at_one * 0.174 * (-0.001 * 5 / 3)
    wanted = c_eta * c2 + 10 / 81 + rest
    torch.testing.assert_close(found, torch.full_like(found, wanted), rtol=5e-3, atol=0)


@pytest.mark.parametrize("join", [0.0, ALPHA_JOIN])
def test_the_pieces_of_the_switch_meet(join):
    near = torch.tensor([join - 1e-7, join + 1e-7], dtype=torch.float64)
    values, slopes = SWITCH.value_and_slope(near)
    assert float(values[0] - values[1]) == pytest.approx(-2e-7 * float(slopes[0]), abs=1e-9)
    assert float(slopes[0]) == pytest.approx(float(slopes[1]), abs=1e-5)


def test_outside_it_is_scans():
    alpha = torch.tensor([-0.4, -1e-3, 2.6, 9.0, 1e6], dtype=torch.float64)
    torch.testing.assert_close(SWITCH(alpha), EXCHANGE_SWITCH(alpha), rtol=1e-13, atol=0)


def test_value_and_slope_in_all_pieces():
    alpha = torch.tensor([-0.7, 0.0, 0.4, 1.0, 1.9, 2.5, 2.51, 30.0], dtype=torch.float64)
    value, slope = SWITCH.value_and_slope(alpha)
    torch.testing.assert_close(value, SWITCH(alpha), rtol=1e-12, atol=1e-15)
    inside = alpha > 0  # at 0 either piece's slope may be taken
    wanted = slope_of(SWITCH, alpha)
    torch.testing.assert_close(slope[inside], wanted[inside], rtol=1e-10, atol=0)
    assert float(value[3]) == pytest.approx(0, abs=1e-11)
    assert float(slope[3]) == pytest.approx(SWITCH.slope_at_one, rel=1e-12)
