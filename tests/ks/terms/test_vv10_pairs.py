"""VV10's sums over pairs: PySCF's numbers, the double sum written out, and blocks of pairs."""

import math

import numpy as np
import pytest
import torch
from pyscf import dft, gto
from pyscf.dft import numint, xc_deriv
from torch import Tensor

from deeph_zero.ks.protocol import Points, VV10Parameters
from deeph_zero.ks.terms import vv10_pairs as vv10

TERMS = (VV10Parameters(6.0, 0.01, 1.0), VV10Parameters(5.9, 0.0093, -0.3))


def cloud(n: int, seed: int = 4) -> tuple[Tensor, Points]:
    """Random points with physical densities, the last two below the cutoff."""
    g = torch.Generator().manual_seed(seed)
    density = 10 ** (torch.rand(n, generator=g, dtype=torch.float64) * 4 - 3)
    grad = torch.randn(3, n, generator=g, dtype=torch.float64) * density ** (4 / 3) * 2
    density[-2:] = torch.tensor([9e-9, 0.0])
    coords = torch.randn(n, 3, generator=g, dtype=torch.float64) * 2
    weights = torch.rand(n, generator=g, dtype=torch.float64)
    return torch.cat([density.unsqueeze(0), grad]), Points(coords, weights)


def dense_energy(rho: Tensor, points: Points) -> Tensor:
    """The double sum written out, for autograd."""
    keep = rho[0].detach() >= vv10.DENSITY_CUTOFF
    density, gamma = rho[0, keep], rho[1:, keep].square().sum(0)
    coords, weights = points.coords[keep], points.weights[keep]
    r2 = (coords[:, None] - coords[None]).square().sum(-1)
    out = density.new_zeros(())
    for term in TERMS:
        gap = term.c * (gamma / density**2) ** 2
        omega = torch.sqrt(gap + 4 * math.pi / 3 * density)
        kappa = term.b * 1.5 * math.pi * (density / (9 * math.pi)) ** (1 / 6)
        g = omega[:, None] * r2 + kappa[:, None]
        phi = -1.5 / (g * g.mT * (g + g.mT))
        beta = (3 / term.b**2) ** 0.75 / 32
        q = weights * density
        out = out + term.coefficient * (beta * q.sum() + 0.5 * q @ phi @ q)
    return out


def test_equals_pyscf_on_a_molecular_grid(water: gto.Mole) -> None:
    grids = dft.gen_grid.Grids(water)
    grids.level = 0
    grids.build()
    dm = dft.RKS(water).get_init_guess()
    ao = numint.eval_ao(water, grids.coords, deriv=1)
    rho = numint.eval_rho(water, ao, dm, xctype="GGA", hermi=1)
    exc, v = numint._vv10nlc(rho, grids.coords, rho, grids.weights, grids.coords, (6.0, 0.01))
    expected = xc_deriv.transform_vxc(rho, v, "GGA", spin=0)
    points = Points(torch.from_numpy(grids.coords), torch.from_numpy(grids.weights))
    energy, potential = vv10.potential(torch.from_numpy(rho), points, TERMS[:1])
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(energy.numpy(), rho[0] * exc, rtol=0, atol=1e-13)
    np.testing.assert_allclose(potential.numpy(), expected, rtol=0, atol=1e-13)


def test_derivatives_are_those_of_the_written_out_sum() -> None:
    rho, points = cloud(17)
    g = torch.Generator().manual_seed(5)
    d1, d2 = (torch.randn(rho.shape, generator=g, dtype=rho.dtype) * rho[0] for _ in range(2))
    x = rho.clone().requires_grad_()
    total = dense_energy(x, points)
    value = float(total.detach())
    (first,) = torch.autograd.grad(total, x, create_graph=True)
    (second,) = torch.autograd.grad((first * d1).sum(), x, create_graph=True)
    (third,) = torch.autograd.grad((second * d2).sum(), x)
    w = points.weights
    energy, v = vv10.potential(rho, points, TERMS)
    assert abs(float(w @ energy) - value) < 1e-14 * float(energy.abs().sum())
    for found, wanted in (
        (v, first),
        (vv10.response(rho, d1, points, TERMS), second),
        (vv10.second_response(rho, d1, d2, points, TERMS), third),
    ):
        assert float(wanted.detach().abs().max()) > 1e-6
        torch.testing.assert_close(w * found, wanted.detach(), rtol=1e-10, atol=1e-13)


def test_points_without_density_take_no_part() -> None:
    rho, points = cloud(9)
    energy, v = vv10.potential(rho, points, TERMS)
    dv = vv10.response(rho, torch.ones_like(rho), points, TERMS)
    fewer = Points(points.coords[:-2], points.weights[:-2])
    assert not energy[-2:].any()
    assert not v[:, -2:].any()
    assert not dv[:, -2:].any()
    torch.testing.assert_close(vv10.potential(rho[:, :-2], fewer, TERMS)[1], v[:, :-2])
    nothing = vv10.potential(torch.zeros(4, 3, dtype=torch.float64), Points(*_first(points)), TERMS)
    assert not nothing[0].any()


def _first(points: Points) -> tuple[Tensor, Tensor]:
    return points.coords[:3], points.weights[:3]


def test_no_gradient_is_no_division_by_zero() -> None:
    rho, points = cloud(6)
    rho[1:] = 0
    d = torch.ones_like(rho)
    assert torch.isfinite(vv10.potential(rho, points, TERMS)[1]).all()
    assert torch.isfinite(vv10.response(rho, d, points, TERMS)).all()
    assert torch.isfinite(vv10.second_response(rho, d, d, points, TERMS)).all()


def test_blocks_and_origin_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rho, points = cloud(31)
    g = torch.Generator().manual_seed(6)
    d1, d2 = (torch.randn(rho.shape, generator=g, dtype=rho.dtype) * rho[0] for _ in range(2))

    def everything(where: Points) -> list[Tensor]:
        return [
            vv10.potential(rho, where, TERMS)[1],
            vv10.response(rho, d1, where, TERMS),
            vv10.second_response(rho, d1, d2, where, TERMS),
        ]

    whole = everything(points)
    monkeypatch.setattr(vv10, "OUTER_POINTS", 7)
    monkeypatch.setattr(vv10, "PAIRS_CPU", 120)
    far = Points(points.coords + 50.0, points.weights)
    for one, other in zip(whole, everything(far), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)
