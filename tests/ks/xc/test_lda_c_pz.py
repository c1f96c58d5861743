"""Perdew and Zunger's correlation: two branches, the Monte Carlo gas, von Barth and Hedin's f."""

import math

import pytest
import torch

from deeph_zero.ks.xc.lda_c_pz import FERROMAGNETIC, PARAMAGNETIC

from .rows import MONTE_CARLO, density_of, per_electron, uniform_gas

FITS = pytest.mark.parametrize("fit", [PARAMAGNETIC, FERROMAGNETIC], ids=["para", "ferro"])


def energy(fit, rs):
    rs = torch.tensor([rs], dtype=torch.float64)
    return float(fit.energy(rs, rs.sqrt()))


@FITS
def test_each_branch_is_its_printed_form(fit):
    dense = fit.a * math.log(0.2) + fit.b + fit.c * 0.2 * math.log(0.2) + fit.d * 0.2
    assert energy(fit, 0.2) == pytest.approx(dense, rel=1e-13)
    thin = fit.gamma / (1 + fit.beta1 * math.sqrt(7.0) + fit.beta2 * 7.0)
    assert energy(fit, 7.0) == pytest.approx(thin, rel=1e-13)


@FITS
def test_the_branches_nearly_meet(fit):
    """The printed digits leave 3e-5 Eh and as little of a step in the slope."""
    gap = energy(fit, 1.0) - energy(fit, 1.0 - 1e-12)
    assert 1e-7 < abs(gap) < 5e-5
    slopes = [
        (energy(fit, a) - energy(fit, b)) / 1e-5 for a, b in ((1 + 1e-5, 1), (1 - 1e-6, 1 - 1.1e-5))
    ]
    assert slopes[0] == pytest.approx(slopes[1], rel=5e-3)


@pytest.mark.parametrize("rs", MONTE_CARLO)
def test_the_gas_is_that_of_monte_carlo(rs):
    found = float(per_electron("LDA_C_PZ", uniform_gas(density_of(rs))))
    assert found == pytest.approx(MONTE_CARLO[rs], rel=0.01)


@pytest.mark.parametrize("zeta", [-1.0, -0.4, 0.0, 0.8, 1.0])
def test_spins_interpolate_between_the_fits(zeta):
    rs = torch.tensor([0.4, 2.0, 9.0], dtype=torch.float64)
    f = ((1 + zeta) ** (4 / 3) + (1 - zeta) ** (4 / 3) - 2) / (2 ** (4 / 3) - 2)
    para, ferro = (one.energy(rs, rs.sqrt()) for one in (PARAMAGNETIC, FERROMAGNETIC))
    found = per_electron("LDA_C_PZ", uniform_gas(density_of(rs), zeta))
    torch.testing.assert_close(found, para + f * (ferro - para), rtol=1e-10, atol=0)
