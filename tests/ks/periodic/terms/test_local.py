"""A fixed potential on the mesh: linear in the total density."""

import pytest
import torch

from deeph_zero.ks.periodic.terms.local import LocalPotential

from ..made_up import mesh, random  # noqa: TID252


@pytest.mark.parametrize("nspin", [1, 2])
def test_the_energy_is_the_integral(nspin):
    values, rho = random(24, seed=1), random(nspin, 5, 24)
    local = LocalPotential("local", mesh(), values)
    energy, rows = local.energy_and_rows(rho)
    wanted = 30.0 / 24 * float((values * rho[:, 0].sum(0)).sum())
    assert float(energy) == pytest.approx(wanted, rel=1e-12)
    assert torch.equal(rows, values.expand(nspin, 1, -1))
    assert local.response(rho, rho) is None
    assert local.second(rho, rho, rho) is None
    assert (local.name, local.nvar) == ("local", 1)
