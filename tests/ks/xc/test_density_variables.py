"""Density variables inside their bounds, so that every functional is finite for any input."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyscf.dft import numint

from deeph_zero.ks.protocol import NVAR
from deeph_zero.ks.xc.density_variables import (
    ClosedShell,
    Polarised,
    sanitise_closed_shell,
    sanitise_polarised,
)
from deeph_zero.ks.xc.registry import COMPONENTS, combine

NAMES = [*COMPONENTS, "HYB_GGA_XC_HSE06", "HYB_GGA_XC_CAM_B3LYP"]
"""All parts there are: other composites are sums of these."""
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


# ---- the variables themselves --------------------------------------------------------------------


def closed(**values: float) -> ClosedShell:
    rows = {name: torch.tensor([x], dtype=torch.float64) for name, x in values.items()}
    return ClosedShell(rows["rho"] > 0, 1e-15, **rows)


def polarised(rho_a: float, rho_b: float, **more: float) -> Polarised:
    rows = {name: torch.tensor([x], dtype=torch.float64) for name, x in more.items()}
    a, b = (torch.tensor([x], dtype=torch.float64) for x in (rho_a, rho_b))
    return Polarised(a + b > 0, 1e-15, a, b, **rows)


def test_powers_of_a_closed_shell() -> None:
    d = closed(rho=0.4)
    assert float(d.rho13) == pytest.approx(0.4 ** (1 / 3), rel=1e-14)
    assert float(d.rho43 * d.inverse43) == pytest.approx(1, rel=1e-14)
    assert float(4 * np.pi / 3 * d.rs**3) == pytest.approx(1 / 0.4, rel=1e-13)
    assert float(d.rs_sqrt**2) == pytest.approx(float(d.rs), rel=1e-14)


@pytest.mark.parametrize("zeta", [-0.7, 0.0, 0.25, 0.9])
def test_functions_of_the_polarisation_and_their_slopes(zeta: float) -> None:
    def at(z: float) -> Polarised:
        return polarised((1 + z) / 2 * 0.8, (1 - z) / 2 * 0.8)

    d, step = at(zeta), 1e-6
    assert float(d.zeta) == pytest.approx(zeta, abs=1e-15)
    wanted = ((1 + zeta) ** (4 / 3) + (1 - zeta) ** (4 / 3) - 2) / (2 ** (4 / 3) - 2)
    assert float(d.f_zeta) == pytest.approx(wanted, abs=1e-14)
    assert float(d.phi) == pytest.approx(((1 + zeta) ** (2 / 3) + (1 - zeta) ** (2 / 3)) / 2)
    assert float(d.d_s) == pytest.approx(((1 + zeta) ** (5 / 3) + (1 - zeta) ** (5 / 3)) / 2)
    for name in ("f_zeta", "phi"):
        up, down = (float(getattr(at(zeta + t), name)) for t in (step, -step))
        slope = float(getattr(d, f"{name}_slope"))
        assert slope == pytest.approx((up - down) / (2 * step), abs=1e-8)


@pytest.mark.parametrize("spin", [0, 1])
def test_full_polarisation_has_finite_slopes(spin: int) -> None:
    """(1 - zeta)^(-1/3) is cut off with libxc: the slope of phi there is that of the full spin."""
    d = polarised(*((0.5, 0.0) if spin == 0 else (0.0, 0.5)))
    sign = 1.0 - 2 * spin
    assert float(d.f_zeta) == pytest.approx(1, abs=1e-14)
    assert float(d.phi_slope) == pytest.approx(sign / 3 / 2 ** (1 / 3), rel=1e-12)
    slope = 4 / 3 * 2 ** (1 / 3) / (2 ** (4 / 3) - 2)
    assert float(d.f_zeta_slope) == pytest.approx(sign * slope, rel=1e-12)
    assert [bool(d.alive_a), bool(d.alive_b)] == [spin == 0, spin == 1]


def test_potentials_are_the_chain_rule() -> None:
    """eps = ln rs + zeta^2 per electron, derived by both densities."""
    a, b = (torch.tensor([x], dtype=torch.float64, requires_grad=True) for x in (0.5, 0.2))
    d = Polarised(torch.tensor([True]), 1e-15, a, b)
    wanted = torch.autograd.grad((d.rho * (torch.log(d.rs) + d.zeta**2)).sum(), (a, b))
    plain = polarised(0.5, 0.2)
    eps = torch.log(plain.rs) + plain.zeta**2
    found = plain.potentials(eps, torch.ones_like(eps), 2 * plain.zeta)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-13, atol=0)


@pytest.mark.parametrize("spin", [0, 1])
def test_a_channel_is_the_closed_shell_of_twice_its_density(spin: int) -> None:
    more = {"sigma_aa": 0.3, "sigma_ab": 0.1, "sigma_bb": 0.7, "tau_a": 0.5, "tau_b": 0.9}
    one = polarised(0.2, 0.6, **more).channel(spin)
    wanted = [(0.4, 1.2, 1.0), (1.2, 2.8, 1.8)][spin]
    assert one.sigma is not None
    assert one.tau is not None
    assert [float(x) for x in (one.rho, one.sigma, one.tau)] == pytest.approx(wanted)
    lda = polarised(0.2, 0.6).channel(spin)
    assert lda.sigma is None
    assert lda.tau is None


def test_sums_over_spins() -> None:
    more = {"sigma_aa": 0.3, "sigma_ab": 0.1, "sigma_bb": 0.7, "tau_a": 0.5, "tau_b": 0.9}
    d = polarised(0.2, 0.6, **more)
    assert float(d.sigma) == pytest.approx(1.2)
    assert float(d.tau) == pytest.approx(1.4)
    thin = polarised(0.6, 1e-7, **more)  # the minority's tau by way of 1 - zeta
    assert float(thin.tau) == pytest.approx(1.4, rel=1e-7)


@pytest.mark.parametrize(
    ("kind", "given", "wanted"),
    [
        ("LDA", (1e-20, 5.0, 1.0), (1e-15,)),
        ("LDA", (1e300,), (1e15,)),
        ("GGA", (0.5, -1.0), (0.5, 1e-40)),
        ("GGA", (0.5, 1e30), (0.5, 0.5**3 * 1e28)),
        ("MGGA", (0.5, 1.0, -3.0), (0.5, 8 * 0.5 * 1e-20, 1e-20)),
        ("MGGA", (0.5, 100.0, 2.0), (0.5, 8.0, 2.0)),  # tau is at least tau_W
        ("MGGA", (0.5, 1.0, 2.0), (0.5, 1.0, 2.0)),
    ],
)
def test_bounds_of_a_closed_shell(kind, given, wanted) -> None:
    rows = tuple(torch.tensor([x], dtype=torch.float64) for x in given)
    found = sanitise_closed_shell(kind, rows, 1e-15)
    assert [float(x) for x in found] == pytest.approx(wanted, rel=1e-12)


def test_bounds_of_spins() -> None:
    """Each spin as a closed shell; the gradients' product no larger than their mean square."""
    rows = (0.5, 1e-30, 1.0, 9.0, 0.0, 2.0, 0.0)
    given = tuple(torch.tensor([x], dtype=torch.float64) for x in rows)
    a, b, aa, ab, bb, tau_a, tau_b = (float(x) for x in sanitise_polarised("MGGA", given, 1e-15))
    assert (a, b, aa, tau_a, tau_b) == (0.5, 1e-15, 1.0, 2.0, 1e-20)
    assert bb == pytest.approx(8e-35, rel=1e-12)
    assert ab == pytest.approx(0.5, rel=1e-12)
    opposed = [x.clone() for x in given]
    opposed[3] = torch.tensor([-9.0], dtype=torch.float64)
    _, _, aa, ab, bb, *_ = (float(x) for x in sanitise_polarised("MGGA", tuple(opposed), 1e-15))
    assert 0 <= aa + 2 * ab + bb < 1e-14
    assert len(sanitise_polarised("GGA", given, 1e-15)) == 5
    assert len(sanitise_polarised("LDA", given, 1e-15)) == 2
