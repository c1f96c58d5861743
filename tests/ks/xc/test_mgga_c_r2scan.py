"""r2SCAN correlation: SCAN's norms kept, the gas, and its first derivative beside SCAN's."""

import pytest
import torch

from deeph_zero.ks.xc.mgga_c_r2scan import SMOOTH_SWITCH
from deeph_zero.ks.xc.mgga_c_scan import CORRELATION_SWITCH
from deeph_zero.ks.xc.registry import combine

from .rows import density_of, energy, energy_density, one_s, uniform_gas

RS = torch.tensor([0.4, 2.0, 9.0], dtype=torch.float64)


@pytest.mark.parametrize("spin", [0, 1])
def test_one_electron_does_not_correlate(spin):
    rows, weights = one_s()
    rows = rows if spin == 0 else rows.flip(0)
    assert energy("MGGA_C_R2SCAN", rows, weights) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("charge", [1.6875, 20.0, 1e4])
def test_one_orbital_of_two_electrons_is_scans(charge):
    rows, weights = one_s(charge, 2)
    found, scan = (energy(f"MGGA_C_{name}", rows, weights) for name in ("R2SCAN", "SCAN"))
    assert found == pytest.approx(scan, rel=1e-6)
    if charge == 1e4:
        assert found == pytest.approx(-0.0467, abs=1e-4)


@pytest.mark.parametrize("zeta", [None, 0.0, -0.6])
def test_the_gas(zeta):
    rows = uniform_gas(density_of(RS), zeta)
    found, wanted = energy_density("MGGA_C_R2SCAN", rows), energy_density("LDA_C_PW_MOD", rows)
    torch.testing.assert_close(found, wanted, rtol=1e-11, atol=0)


def test_the_potential_by_tau_does_not_ring():
    """SCAN's slope vanishes with all derivatives at alpha = 1; r2SCAN's goes on."""
    n = torch.tensor([0.4], dtype=torch.float64)
    slopes = []
    for name in ("MGGA_C_SCAN", "MGGA_C_R2SCAN"):
        rows = uniform_gas(n)
        rows[0, 1] = 0.2
        rows[0, 4] += rows[0, 1] ** 2 / (8 * n)  # alpha = 1
        v = combine([(name, 1.0)], unrestricted=False).gradient(rows)[1]
        slopes.append(float(v[0, 4].abs()))
    assert slopes[0] < 1e-12
    assert slopes[1] > 1e-3


def test_the_switch_of_correlation():
    alpha = torch.tensor([0.0, 1.0, 2.5, 7.0], dtype=torch.float64)
    found = SMOOTH_SWITCH(alpha)
    assert float(found[0]) == 1.0
    assert float(found[1]) == pytest.approx(0, abs=1e-11)
    torch.testing.assert_close(found[2:], CORRELATION_SWITCH(alpha[2:]), rtol=1e-9, atol=0)


@pytest.mark.parametrize("zeta", [None, 0.3])
def test_strange_densities_stay_real(zeta):
    """The shift dy may not make 1 + 4 y negative, whatever a bad grid point holds."""
    rows = uniform_gas(torch.tensor([1e-9, 1e-3, 1.0, 1e6], dtype=torch.float64), zeta)
    for slope in (1e-6, 1.0, 1e4):
        rows[:, 1] = slope * rows[:, 0]
        assert bool(torch.isfinite(energy_density("MGGA_C_R2SCAN", rows)).all())
