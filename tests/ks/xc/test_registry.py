"""Every torch functional of the registry against libxc, and its derivatives against each other."""

import dataclasses
import importlib
import math
import pickle
import pkgutil
from collections.abc import Callable

import numpy as np
import pytest
import torch
from pyscf.dft import libxc, numint

from deeph_zero.errors import InputError
from deeph_zero.ks import xc as xc_package
from deeph_zero.ks.protocol import NVAR
from deeph_zero.ks.xc.composites import COMPOSITES
from deeph_zero.ks.xc.functional import SemilocalFunctional
from deeph_zero.ks.xc.registry import COMPONENTS, combine, is_implemented

NAMES = [*COMPONENTS, *COMPOSITES]
WITH_PARAMETERS = ["HYB_GGA_XC_HSE06", "HYB_GGA_XC_CAM_B3LYP"]
ELEMENTARY = [*COMPONENTS, *WITH_PARAMETERS]
"""Of which the other composites are sums."""
SPINS = [pytest.param(False, id="closed"), pytest.param(True, id="polarised")]
N = 400
K_F = (3 * math.pi**2) ** (2 / 3)

NOISY_BELOW = {"HYB_GGA_XC_HSE06": 3e-6}
"""Spin density below which libxc's own result scatters: powers of w = omega / k_F that cancel.

At 1.5e-8 (w = 11) its potential scatters by 4e-9 when the density changes by 1e-12.
"""
# libxc writes log(1 + y) and exp(y) - 1 with small y, and loses digits in thin densities: y is
# 1e-4 of the result's scale at the thinnest points here. log1p and expm1 do not.
ENERGY_RTOL = 1e-10
FIRST_RTOL = 1e-10
SECOND_RTOL = 1e-9


def spin_channel(kind: str, rng: np.random.Generator, log_rho: tuple[float, float]) -> np.ndarray:
    """Rows of one density: reduced gradients s in 0.01..5, tau above the Weizsaecker bound."""
    rho = 10 ** rng.uniform(*log_rho, N)
    direction = rng.normal(size=(3, N))
    direction /= np.linalg.norm(direction, axis=0)
    grad = direction * 10 ** rng.uniform(-2, 0.7, N) * 2 * math.sqrt(K_F) * rho ** (4 / 3)
    tau = (grad**2).sum(0) / (8 * rho) + 10 ** rng.uniform(-2, 1, N) * 0.3 * K_F * rho ** (5 / 3)
    return np.vstack([rho, grad, tau])[: NVAR[kind]]


def features(
    kind: str, unrestricted: bool, seed: int = 0, log_rho: tuple[float, float] = (-6.0, 3.0)
) -> np.ndarray:
    """Random physical density rows, from rs = 60 to rs = 0.06."""
    rng = np.random.default_rng(seed)
    alpha = spin_channel(kind, rng, log_rho)
    if not unrestricted:
        return alpha[None]
    ratio = 10 ** rng.uniform(-3, 0.3, N)
    beta = alpha.copy()
    beta[0] *= ratio
    # a gradient along another axis, scaled as the density demands
    beta[1:4] = np.roll(alpha[1:4], 1, axis=0) * ratio ** (4 / 3)
    beta[4:] *= ratio ** (5 / 3)
    return np.stack([alpha, beta])


def reference(name: str, rho: np.ndarray, unrestricted: bool, deriv: int) -> list[np.ndarray]:
    """(f, first, second, ...) from PySCF's libxc, f per volume; a spin axis for every variable."""
    rows = rho if unrestricted else rho[0]
    out = numint.NumInt().eval_xc_eff(name, rows, deriv, spin=int(unrestricted))[: deriv + 1]
    out[0] = out[0] * rho[:, 0].sum(0)
    return [x.reshape(*rho.shape[:-1] * n, -1) for n, x in enumerate(out)]


def torch_functional(name: str, unrestricted: bool) -> SemilocalFunctional:
    return combine([(name, 1.0)], unrestricted=unrestricted)


def assert_close(value: torch.Tensor, expected: np.ndarray, rtol: float, scale: np.ndarray) -> None:
    """|value - expected| <= rtol (|expected| + scale), scale being the size of what cancels."""
    error = np.abs(value.numpy() - expected)
    worst = (error / (np.abs(expected) + scale + 1e-300)).max()
    assert worst <= rtol, f"worst relative error {worst:.2e}"


def component_sizes(
    functional: SemilocalFunctional, rho: np.ndarray, deriv: int
) -> list[np.ndarray]:
    """The same as :func:`reference`, summed over components as sizes: what cancels between them."""
    total: list[np.ndarray] = []
    for component, coefficient in functional.components:
        rows = rho[..., : NVAR[component.kind], :]
        parts = reference(component.name, rows, functional.unrestricted, deriv)
        sizes = [np.abs(coefficient * x) for x in parts]
        if component.kind != functional.kind:
            wanted = [(NVAR[functional.kind] - NVAR[component.kind]) * (n > 0) for n in range(4)]
            sizes = [_widened(x, wanted[n]) for n, x in enumerate(sizes)]
        total = [a + b for a, b in zip(total, sizes, strict=True)] if total else sizes
    return total


def _widened(x: np.ndarray, rows: int) -> np.ndarray:
    """A derivative of a functional of fewer variables, with zeros for the missing rows."""
    pad = [(0, rows) if axis % 2 else (0, 0) for axis in range(x.ndim - 1)]
    return np.pad(x, [*pad, (0, 0)])


def central_difference(
    function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, direction: torch.Tensor
) -> torch.Tensor:
    """Derivative along a direction from five points; its error is of fourth order.

    The switching functions of the SCAN family bend too sharply for three points.
    """
    h = 1e-5
    near = function(x + h * direction) - function(x - h * direction)
    far = function(x + 2 * h * direction) - function(x - 2 * h * direction)
    return (8 * near - far) / (12 * h)


def test_every_module_is_registered() -> None:
    for info in pkgutil.iter_modules(xc_package.__path__):
        module = importlib.import_module(f"{xc_package.__name__}.{info.name}")
        if info.name == "registry":
            continue
        for component in getattr(module, "COMPONENTS", ()):
            assert COMPONENTS[component.name] is component


@pytest.mark.parametrize("name", NAMES)
def test_identity_matches_libxc(name: str) -> None:
    assert libxc.available_libxc_functionals()[name] > 0
    functional = torch_functional(name, unrestricted=False)
    assert functional.kind == libxc.xc_type(name)
    if name in COMPONENTS:
        assert libxc.available_libxc_functionals()[name] == COMPONENTS[name].libxc_id


@pytest.mark.parametrize("unrestricted", SPINS)
@pytest.mark.parametrize("name", NAMES)
def test_energy_and_potential_equal_libxc(name: str, unrestricted: bool) -> None:
    functional = torch_functional(name, unrestricted)
    rho = features(functional.kind, unrestricted)
    thick = (rho[..., 0, :] > NOISY_BELOW.get(name, 0.0)).reshape(-1, N).all(0)
    assert thick.sum() > N / 3
    rho = rho[..., thick]
    f_ref, v_ref = reference(name, rho, unrestricted, 1)
    f, v = functional.gradient(torch.from_numpy(rho))
    total = rho[:, 0].sum(0)
    assert_close(f, f_ref, ENERGY_RTOL, 1e-3 * total ** (4 / 3))
    # a small fraction of each row's natural size: potentials cross zero
    row_scale = np.stack([total ** (1 / 3), *[np.ones(len(total))] * 3, total ** (-1 / 3)])
    row_scale[1:4] = np.abs(v_ref[..., 1:4, :]).max(tuple(range(v_ref.ndim - 1)), initial=0.0)
    cancelling = component_sizes(functional, rho, 1)[1] - np.abs(v_ref)
    assert_close(v, v_ref, FIRST_RTOL, 1e-3 * row_scale[: rho.shape[-2]] + cancelling)


@pytest.mark.parametrize("unrestricted", SPINS)
@pytest.mark.parametrize("name", ELEMENTARY)
def test_second_derivative_equals_libxc(name: str, unrestricted: bool) -> None:
    functional = torch_functional(name, unrestricted)
    rho = features(functional.kind, unrestricted, seed=1, log_rho=(-4.0, 2.0))
    direction = np.random.default_rng(2).normal(size=rho.shape) * np.abs(rho)
    hessian = reference(name, rho, unrestricted, 2)[2]
    letters = "axbyg,axg->byg"
    expected = np.einsum(letters, hessian, direction)
    scale = np.einsum(letters, component_sizes(functional, rho, 2)[2], np.abs(direction))
    value = functional.second(torch.from_numpy(rho), torch.from_numpy(direction))
    assert_close(value, expected, SECOND_RTOL, scale)


@pytest.mark.parametrize("unrestricted", SPINS)
@pytest.mark.parametrize("name", ELEMENTARY)
def test_third_derivative_equals_libxc(name: str, unrestricted: bool) -> None:
    functional = torch_functional(name, unrestricted)
    rho = features(functional.kind, unrestricted, seed=3, log_rho=(-2.0, 1.0))[..., :60]
    rng = np.random.default_rng(4)
    d1, d2 = (rng.normal(size=rho.shape) * np.abs(rho) for _ in range(2))
    tensor = reference(name, rho, unrestricted, 3)[3]
    letters = "axbyczg,axg,byg->czg"
    expected = np.einsum(letters, tensor, d1, d2)
    sizes = component_sizes(functional, rho, 3)[3]
    scale = np.einsum(letters, sizes, np.abs(d1), np.abs(d2))
    value = functional.third(*(torch.from_numpy(x) for x in (rho, d1, d2)))
    assert_close(value, expected, 1e-8, scale)


@pytest.mark.parametrize("unrestricted", SPINS)
@pytest.mark.parametrize("name", ELEMENTARY)
def test_derivatives_are_derivatives(name: str, unrestricted: bool) -> None:
    """Central differences of each order against the next, and symmetry of the third."""
    functional = torch_functional(name, unrestricted)
    rho = torch.from_numpy(
        features(functional.kind, unrestricted, seed=5, log_rho=(-1.0, 0.5))[..., :50]
    )
    generator = torch.Generator().manual_seed(6)
    d1, d2 = (
        torch.randn(rho.shape, generator=generator, dtype=torch.float64) * rho.abs() for _ in "12"
    )
    v = functional.gradient(rho)[1]
    rows = tuple(range(rho.ndim - 1))
    slope_f = central_difference(lambda x: functional.gradient(x)[0], rho, d1)
    torch.testing.assert_close((v * d1).sum(rows), slope_f, rtol=1e-7, atol=1e-8)
    second = functional.second(rho, d1)
    size = second.abs().max().item()
    slope_v = central_difference(lambda x: functional.gradient(x)[1], rho, d1)
    torch.testing.assert_close(second, slope_v, rtol=1e-6, atol=1e-7 * size)
    third = functional.third(rho, d1, d2)
    slope_second = central_difference(lambda x: functional.second(x, d2), rho, d1)
    size = third.abs().max().item()
    assert size > 0
    torch.testing.assert_close(third, slope_second, rtol=1e-5, atol=1e-6 * size)
    torch.testing.assert_close(third, functional.third(rho, d2, d1), rtol=1e-10, atol=1e-12 * size)


def corner_features(kind: str, unrestricted: bool, case: str) -> torch.Tensor:
    """Densities on a boundary of the allowed region, or plain ones."""
    log_rho = (-14.0, -8.0) if case == "thin" else (-8.0, 5.0)
    rho = features(kind, unrestricted, seed=11, log_rho=log_rho)
    weizsaecker = (rho[..., 1:4, :] ** 2).sum(-2) / (8 * rho[..., 0, :])
    if case == "no gradient":
        rho[..., 1:4, :] = 0
    factor = {"weizsaecker": 1.0, "below": 0.3, "no tau": 0.0}.get(case)
    if factor is not None:
        rho[..., 4:, :] = factor * weizsaecker[..., None, :]
    if unrestricted:
        rho[1] *= {"one spin": 0.0, "nearly one spin": 1e-9}.get(case, 1.0)
    return torch.from_numpy(rho)


BY_HAND = [
    (name, unrestricted)
    for name, c in COMPONENTS.items()
    for unrestricted, first in ((False, c.closed_shell_first), (True, c.polarised_first))
    if first is not None
]
CORNERS = ["plain", "thin", "no gradient", "weizsaecker", "below", "no tau", "one spin"]


def possible(kind: str, unrestricted: bool, case: str) -> bool:
    """Whether a corner exists: some are about tau, some about a second spin."""
    needs_tau = case in ("weizsaecker", "below", "no tau")
    return (kind == "MGGA" or not needs_tau) and (unrestricted or "one spin" not in case)


@pytest.mark.parametrize(
    ("name", "unrestricted", "case"),
    [
        (name, unrestricted, case)
        for name, unrestricted in BY_HAND
        for case in (*CORNERS, "nearly one spin")
        if possible(COMPONENTS[name].kind, unrestricted, case)
    ],
)
def test_written_out_derivatives_equal_automatic_ones(
    name: str, unrestricted: bool, case: str
) -> None:
    component = COMPONENTS[name]
    by_hand = combine([(name, 0.7)], unrestricted=unrestricted)
    without = dataclasses.replace(component, closed_shell_first=None, polarised_first=None)
    automatic = SemilocalFunctional([(without, 0.7)], unrestricted=unrestricted)
    rho = corner_features(component.kind, unrestricted, case)
    before = rho.clone()
    f, v = by_hand.gradient(rho)
    f_automatic, v_automatic = automatic.gradient(rho)
    assert f.abs().max() > 1e-17
    # a part of the natural size beside the value: potentials cross zero, thin densities cancel
    total = before[..., 0, :].reshape(-1, N).sum(0)
    f_error = (f - f_automatic).abs() / (f_automatic.abs() + 0.1 * total ** (4 / 3))
    # at rs = 1e4 logarithms of order ten add up to 1e-4, written either way
    rtol = 1e-10 if case == "thin" else 1e-12
    assert f_error.max() < rtol
    thick = before[..., 0, :].abs().clamp(min=1e-15)
    natural = torch.stack([thick ** (1 / 3), *[thick.new_ones(thick.shape)] * 3, thick ** (-1 / 3)])
    natural = natural.movedim(0, -2)[..., : v.shape[-2], :]
    natural[..., 1:4, :] = v_automatic[..., 1:4, :].abs()
    error = (v - v_automatic).abs() / (v_automatic.abs() + 0.1 * natural + 1e-300)
    assert error.max() < rtol, f"worst relative error {error.max():.2e}"
    torch.testing.assert_close(rho, before, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_polarised_form_reduces_to_closed_shell(name: str) -> None:
    rho = features(torch_functional(name, False).kind, False, seed=7)
    f, v = torch_functional(name, False).gradient(torch.from_numpy(rho))
    f_spin, v_spin = torch_functional(name, True).gradient(
        torch.from_numpy(np.concatenate([rho, rho]) / 2)
    )
    torch.testing.assert_close(f_spin, f, rtol=1e-11, atol=0)
    for spin in range(2):
        torch.testing.assert_close(v_spin[spin], v[0], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "unrestricted", "case"),
    [
        (name, unrestricted, case)
        for name in ELEMENTARY
        for unrestricted in (False, True)
        for case in ("no gradient", "weizsaecker", "below", "no tau", "one spin")
        if possible("MGGA", unrestricted, case)
    ],
)
def test_limits_equal_libxc(name: str, unrestricted: bool, case: str) -> None:
    functional = torch_functional(name, unrestricted)
    rho = features(functional.kind, unrestricted, seed=8, log_rho=(-5.0, 0.5))
    weizsaecker = (rho[..., 1:4, :] ** 2).sum(-2) / (8 * rho[..., 0, :])
    if case == "no gradient":
        rho[..., 1:4, :] = 0
    if rho.shape[-2] > 4:
        # not exactly at the bound: there rounding alone picks libxc's branch
        factor = {"weizsaecker": 1 + 1e-9, "below": 0.3, "no tau": 0.0}.get(case)
        if factor is not None:
            rho[..., 4, :] = factor * weizsaecker
    if case == "one spin":
        rho[1] = 0
    f_ref, v_ref = reference(name, rho, unrestricted, 1)
    f, v = functional.gradient(torch.from_numpy(rho))
    total = rho[:, 0].sum(0)
    assert_close(f, f_ref, ENERGY_RTOL, 1e-3 * total ** (4 / 3))
    if case == "no tau" and unrestricted and "TPSS" in name:
        return  # both tau at the floor: tau_W = tau to the last bit, rounding picks the branch
    majority = (0,) if case == "one spin" else ()
    assert_close(v[majority], v_ref[majority], 1e-9, 1e-2 * total ** (1 / 3))


def test_unknown_components_are_refused() -> None:
    assert is_implemented(["GGA_X_PBE", "HYB_GGA_XC_B3LYP"])
    assert not is_implemented(["GGA_X_PBE", "GGA_X_PW91"])
    with pytest.raises(InputError, match=r"expected one of LDA_X.*got 'GGA_X_PW91'; use libxc"):
        combine([("GGA_X_PW91", 1.0)], unrestricted=False)
    with pytest.raises(InputError, match="expected at least one component, got none"):
        combine([], unrestricted=False)


@pytest.mark.parametrize("unrestricted", SPINS)
@pytest.mark.parametrize("name", ["GGA_C_PBE", "HYB_GGA_XC_HSE06"])
def test_a_functional_is_pickled_by_the_names_of_its_parts(name, unrestricted):
    functional = combine([(name, 0.5)], unrestricted=unrestricted)
    again = pickle.loads(pickle.dumps(functional))
    assert again.key == functional.key
    rho = torch.rand(1 + unrestricted, NVAR[functional.kind], 5, dtype=torch.float64)
    for one, other in zip(again.gradient(rho), functional.gradient(rho), strict=True):
        assert torch.equal(one, other)


def test_a_component_of_nobody_is_pickled_as_it_is():
    mine = dataclasses.replace(COMPONENTS["LDA_X"], name="MINE", closed_shell=abs, polarised=abs)
    plain = dataclasses.replace(mine, closed_shell_first=None, polarised_first=None)
    assert pickle.loads(pickle.dumps(plain)) == plain
