"""Torch functionals stay finite for any input and are zero below libxc's density thresholds."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyscf.dft import numint
from scipy.special import exp1

from deeph_zero.ks.protocol import NVAR
from deeph_zero.ks.xc.composites import COMPOSITES
from deeph_zero.ks.xc.exponential_integral import scaled_e1
from deeph_zero.ks.xc.gga_x_b88 import x_asinh_x
from deeph_zero.ks.xc.registry import COMPONENTS, combine

NAMES = [*COMPONENTS, *COMPOSITES]
DENSITIES = (0.0, -1.0, -1e-14, 1e-300, 1e-18, 1e-15, 1.1e-15, 1e-12, 1e-8, 0.3, 1e5, 1e300)
GRADIENTS = (0.0, 1e-200, -1e-30, 1e-8, -2.0, 1e10, 1e200)
TAUS = (0.0, -1.0, 1e-300, 1e-20, 1e-8, 1.0, 1e12, 1e300)


def all_results(
    name: str, rho: torch.Tensor, unrestricted: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    functional = combine([(name, 1.0)], unrestricted=unrestricted)
    rho = rho[..., : NVAR[functional.kind], :].contiguous()
    # directions a density change can have: no larger than the density rows, never zero
    d1 = torch.full_like(rho, 1e-3)
    d2 = torch.full_like(rho, -2e-3)
    f, first = functional.gradient(rho)
    return f, first, functional.second(rho, d1), functional.third(rho, d1, d2)


@pytest.mark.parametrize("name", NAMES)
def test_closed_shell_energy_and_first_derivative_finite_on_the_corners(name: str) -> None:
    points = list(itertools.product(DENSITIES, GRADIENTS, GRADIENTS[:3], TAUS))
    rho = torch.tensor([[n, g, h, -g, t] for n, g, h, t in points], dtype=torch.float64).T[None]
    functional = combine([(name, 1.0)], unrestricted=False)
    f, first = functional.gradient(rho[:, : NVAR[functional.kind]])
    assert torch.isfinite(f).all()
    assert torch.isfinite(first).all()
    dead = torch.tensor([n < 1e-16 for n, *_ in points])
    assert dead.any()
    assert (f[dead] == 0).all()
    assert (first[..., dead] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_polarised_energy_and_first_derivative_finite_on_the_corners(name: str) -> None:
    densities = (0.0, -1.0, 1e-300, 1.1e-15, 1e-8, 0.3, 1e300)
    corners = list(itertools.product(densities, GRADIENTS[::2], TAUS[::2]))
    points = list(itertools.product(corners, corners))
    rho = torch.tensor(
        [[[n, g, -g, 0.5 * g, t] for n, g, t in pair] for pair in points], dtype=torch.float64
    ).permute(1, 2, 0)
    functional = combine([(name, 1.0)], unrestricted=True)
    f, first = functional.gradient(rho[:, : NVAR[functional.kind]].contiguous())
    assert torch.isfinite(f).all()
    assert torch.isfinite(first).all()


@pytest.mark.parametrize("unrestricted", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_higher_derivatives_never_nan(name: str, unrestricted: bool) -> None:
    corners = list(itertools.product(DENSITIES, GRADIENTS[::2], TAUS[1::2]))
    if unrestricted:
        pairs = list(itertools.product(corners[::3], corners[::3]))
        rho = torch.tensor(
            [[[n, g, -g, 0.5 * g, t] for n, g, t in pair] for pair in pairs], dtype=torch.float64
        ).permute(1, 2, 0)
    else:
        rho = torch.tensor([[n, g, g, -g, t] for n, g, t in corners], dtype=torch.float64).T[None]
    for result in all_results(name, rho, unrestricted):
        assert torch.isfinite(result).all()


@pytest.mark.parametrize("name", ["GGA_C_LYP", "MGGA_X_TPSS", "MGGA_C_TPSS"])
@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(
        st.floats(-1e30, 1e30, allow_nan=False, allow_subnormal=True), min_size=10, max_size=10
    )
)
def test_random_floats_never_give_nan(name: str, values: list[float]) -> None:
    rho = torch.tensor(values, dtype=torch.float64).reshape(2, 5, 1)
    kind = COMPONENTS[name].kind
    functional = combine([(name, 1.0)], unrestricted=True)
    f, first = functional.gradient(rho[:, : NVAR[kind]].contiguous())
    assert torch.isfinite(f).all()
    assert torch.isfinite(first).all()


@pytest.mark.parametrize("unrestricted", [False, True])
@pytest.mark.parametrize("name", list(COMPONENTS))
def test_density_threshold_is_that_of_libxc(name: str, unrestricted: bool) -> None:
    component = COMPONENTS[name]
    rho = np.zeros((5, 60))
    rho[0] = component.threshold * np.linspace(0.5, 3.0, 60)
    rho[4] = 3 * rho[0] ** (5 / 3)
    rho = rho[None, : NVAR[component.kind]]
    if unrestricted:
        rho = np.concatenate([rho, np.zeros_like(rho)])
    rows = rho if unrestricted else rho[0]
    exc = numint.NumInt().eval_xc_eff(name, rows, 1, spin=int(unrestricted))[0]
    f, _ = combine([(name, 1.0)], unrestricted=unrestricted).gradient(torch.from_numpy(rho))
    # LYP of one spin is zero by construction, and its rounding is not libxc's
    if not (name == "GGA_C_LYP" and unrestricted):
        assert ((f.numpy() == 0) == (exc == 0)).all()
    assert (f.numpy()[rho[..., 0, :].reshape(-1, 60)[0] < component.threshold] == 0).all()


def test_scaled_exponential_integral_and_its_derivatives() -> None:
    x = torch.cat([torch.logspace(-12, 2.8, 300), torch.tensor([1.999999, 2.0, 2.000001])])
    x = x.double().requires_grad_()
    at = x.detach()
    expected = torch.from_numpy(np.exp(at.numpy()) * exp1(at.numpy()))
    g, plus_log = scaled_e1(x)
    torch.testing.assert_close(g.detach(), expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(plus_log.detach(), expected + at.log(), rtol=1e-11, atol=1e-14)
    first = torch.autograd.grad(plus_log.sum(), x, create_graph=True)[0]
    torch.testing.assert_close(first.detach(), expected, rtol=1e-13, atol=0)
    second = torch.autograd.grad(first.sum(), x)[0]
    torch.testing.assert_close(second, expected - 1 / at, rtol=1e-10, atol=0)


def test_x_asinh_x_is_smooth_across_its_two_branches() -> None:
    u = torch.tensor([0.0, 1e-40, 1e-9, 0.049999, 0.05, 0.050001, 0.3], dtype=torch.float64)
    u.requires_grad_()
    value = x_asinh_x(u)
    expected = torch.sqrt(u) * torch.asinh(torch.sqrt(u))
    torch.testing.assert_close(value, expected, rtol=1e-14, atol=0)
    first = torch.autograd.grad(value.sum(), u, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), u, create_graph=True)[0]
    third = torch.autograd.grad(second.sum(), u)[0]
    # x asinh x = u - u^2/6 + 3 u^3/40 - ...
    assert first[0].item() == pytest.approx(1.0, abs=1e-15)
    assert second[0].item() == pytest.approx(-1 / 3, abs=1e-15)
    assert third[0].item() == pytest.approx(18 / 40, abs=1e-14)
    for derivative in (first, second, third):
        torch.testing.assert_close(derivative[3], derivative[5], rtol=1e-4, atol=0)
        # linear interpolation across the seam
        middle = (derivative[3] + derivative[5]) / 2
        torch.testing.assert_close(derivative[4], middle, rtol=1e-9, atol=0)
