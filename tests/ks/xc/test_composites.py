"""Composite functionals: what they leave of the gas's exchange, the orbitals' exchange makes up."""

import pytest
import torch
from pyscf.dft import libxc

from deeph_zero.ks.xc.composites import COMPOSITES
from deeph_zero.ks.xc.registry import combine, is_implemented

from .rows import energy_density, one_s


def shares(name):
    """Semilocal exchange at long and at short range."""
    far = near = 0.0
    for part, weight in COMPOSITES[name]:
        if "_X" not in part:
            continue
        near += weight
        if not part.endswith(")"):  # with a parameter: short range alone
            far += weight
    return far, near


@pytest.mark.parametrize("name", COMPOSITES)
def test_exchange_of_both_ranges_adds_up_to_one(name):
    omega, alpha, beta = libxc.rsh_coeff(name)
    hybrid = libxc.hybrid_coeff(name)
    exact = (alpha, alpha + beta) if omega else (hybrid, hybrid)
    far, near = shares(name)
    assert far + exact[0] == pytest.approx(1, abs=1e-12)
    assert near + exact[1] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", COMPOSITES)
def test_every_part_is_there(name):
    assert is_implemented([name])
    functional = combine([(name, 1.0)], unrestricted=True)
    wanted = {part.split("(")[0] for part, _ in COMPOSITES[name]}
    assert {component.name for component, _ in functional.components} == wanted


@pytest.mark.parametrize("name", ["HYB_GGA_XC_B3LYP", "HYB_GGA_XC_PBEH", "HYB_MGGA_XC_TPSSH"])
def test_the_energy_is_the_weighted_sum(name):
    rows, _ = one_s(1.3, 2)
    parts = [weight * energy_density(part, rows) for part, weight in COMPOSITES[name]]
    found = energy_density(name, rows)
    torch.testing.assert_close(found, torch.stack(parts).sum(0), rtol=1e-11, atol=1e-16)
