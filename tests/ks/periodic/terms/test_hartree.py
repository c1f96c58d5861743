"""Repulsion of the electrons on the mesh: the double sum over its points."""

import pytest
import torch

from deeph_zero.ks.periodic.terms.hartree import Hartree

from ..made_up import difference, mesh, random  # noqa: TID252


def kernel_matrix():
    """v(r - r') on the points, column by column."""
    return torch.stack([mesh().coulomb(one) for one in torch.eye(24, dtype=torch.float64)], 1)


@pytest.mark.parametrize("nspin", [1, 2])
def test_energy_and_potential(nspin):
    rho = random(nspin, 4, 24)
    total, v = rho[:, 0].sum(0), kernel_matrix()
    energy, rows = Hartree(mesh()).energy_and_rows(rho)
    wanted = 0.5 * mesh().weight * float(total @ v @ total)
    assert abs(wanted) > 1
    assert float(energy) == pytest.approx(wanted, rel=1e-12)
    assert rows.shape == (nspin, 1, 24)
    torch.testing.assert_close(rows[:, 0], (v @ total).expand(nspin, -1))


@pytest.mark.parametrize("nspin", [1, 2])
def test_it_is_quadratic(nspin):
    rho, d = random(nspin, 1, 24), random(nspin, 1, 24, seed=3)
    hartree = Hartree(mesh())
    change = difference(lambda t: hartree.energy_and_rows(rho + t * d)[1])
    torch.testing.assert_close(hartree.response(rho, d), change, rtol=1e-9, atol=1e-9)
    assert hartree.second(rho, d, d) is None
    slope = difference(lambda t: hartree.energy_and_rows(rho + t * d)[0])
    rows = hartree.energy_and_rows(rho)[1]
    assert float((rows * d).sum() * mesh().weight) == pytest.approx(float(slope), rel=1e-9)
