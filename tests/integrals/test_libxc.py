"""What xc strings resolve to, what is refused, and libxc-evaluated functionals."""

import numpy as np
import pytest
import torch
from pyscf.dft import libxc, numint

from deeph_zero.errors import InputError
from deeph_zero.integrals.libxc import (
    POTENTIAL_ONLY,
    LibxcFunctional,
    XCSpec,
    describe,
    make_functional,
)
from deeph_zero.ks.protocol import NVAR
from deeph_zero.ks.xc.functional import SemilocalFunctional

N = 40


def density(kind: str, unrestricted: bool, seed: int = 0) -> torch.Tensor:
    """Physical density rows around rs = 1."""
    rng = np.random.default_rng(seed)
    channels = []
    for _ in range(2 if unrestricted else 1):
        rho = 10 ** rng.uniform(-1.5, 0.5, N)
        grad = rng.normal(size=(3, N)) * rho ** (4 / 3)
        tau = (grad**2).sum(0) / (8 * rho) + rng.uniform(0.3, 3.0, N) * rho ** (5 / 3)
        channels.append(np.vstack([rho, grad, tau])[: NVAR[kind]])
    return torch.from_numpy(np.stack(channels))


@pytest.mark.parametrize(
    ("xc", "kind", "exchange", "components"),
    [
        ("hf", "HF", (1.0, 1.0, 0.0), ()),
        ("pbe", "GGA", (0.0, 0.0, 0.0), (("GGA_X_PBE", 1.0), ("GGA_C_PBE", 1.0))),
        ("PBE,", "GGA", (0.0, 0.0, 0.0), (("GGA_X_PBE", 1.0),)),
        ("lda,vwn", "LDA", (0.0, 0.0, 0.0), (("LDA_X", 1.0), ("LDA_C_VWN", 1.0))),
        ("b3lyp", "GGA", (0.2, 0.2, 0.0), (("HYB_GGA_XC_B3LYP", 1.0),)),
        ("pbe0", "GGA", (0.25, 0.25, 0.0), (("HYB_GGA_XC_PBEH", 1.0),)),
        ("tpss", "MGGA", (0.0, 0.0, 0.0), (("MGGA_X_TPSS", 1.0), ("MGGA_C_TPSS", 1.0))),
        ("camb3lyp", "GGA", (0.19, 0.65, 0.33), (("HYB_GGA_XC_CAM_B3LYP", 1.0),)),
        ("hse06", "GGA", (0.25, 0.0, 0.11), (("HYB_GGA_XC_HSE06", 1.0),)),
        ("r2scan0", "MGGA", (0.25, 0.25, 0.0), (("HYB_MGGA_XC_R2SCAN0", 1.0),)),
        (
            "0.5*HF + 0.5*B88, LYP",
            "GGA",
            (0.5, 0.5, 0.0),
            (("GGA_X_B88", 0.5), ("GGA_C_LYP", 1.0)),
        ),
        ("402", "GGA", (0.2, 0.2, 0.0), (("HYB_GGA_XC_B3LYP", 1.0),)),
    ],
)
def test_description(
    xc: str,
    kind: str,
    exchange: tuple[float, float, float],
    components: tuple[tuple[str, float], ...],
) -> None:
    spec = describe(xc)
    assert spec.name == xc
    assert spec.kind == kind
    hyb, alpha, omega = exchange
    assert (spec.hyb, spec.alpha, spec.omega) == pytest.approx(exchange)
    assert spec.components == components
    assert numint.NumInt().rsh_and_hybrid_coeff(xc) == pytest.approx((omega, alpha, hyb))


@pytest.mark.parametrize(
    ("xc", "message"),
    [
        ("b3lpy", "got 'b3lpy'; did you mean 'b3lyp'"),
        ("pbe,lpy", r"got 'lpy' \(in 'pbe,lpy'\); did you mean 'lyp'"),
        (
            "0.6*rpbe + 0.4*revpbe, pbe",
            r"got 'revpbe' .*beside a comma write its parts, 'pbe_r,pbe'",
        ),
        ("pw", "did you mean 'lda_c_pw'"),
        ("qqqqqqqq", "use a PySCF or libxc functional name"),
        ("b3lyp*", "expected a functional that libxc knows"),
        ("9999", "libxc number 9999, which does not exist"),
        ("", "got an empty string"),
        ("scanl", "Laplacian"),
        ("mgga_x_br89", "Laplacian"),
        ("gga_x_lb", "GGA_X_LB defines a potential but no energy"),
        ("lb94", "GGA_X_LB defines a potential but no energy"),
        ("tb09", "MGGA_X_TB09 defines a potential but no energy"),
        ("gga_k_vw", "GGA_K_VW is a kinetic-energy functional"),
        ("lda_k_tf,pbe", "LDA_K_TF is a kinetic-energy functional"),
        ("lda_x_2d", "one- or two-dimensional"),
        ("lda_c_1d_csc", "one- or two-dimensional"),
        ("lda_c_2d_amgb", "one- or two-dimensional"),
        ("lda_x_1d_soft", "one- or two-dimensional"),
        ("camy_b3lyp", "Yukawa"),
        ("b3lyp-d9", "expected a functional that libxc knows"),
        ("pbe-D3foo", "asks for the dispersion correction 'd3foo'"),
        ("1e9*hf", r"expected coefficients from -10 to 10, got 1e\+09"),
        ("-1e9*pbe", r"expected coefficients from -10 to 10, got -1e\+09"),
        ("pbe,10.5*lyp", r"expected coefficients from -10 to 10, got 10\.5"),
        ("RSH(0;-2e3;0.3) + pbe", r"expected coefficients from -10 to 10, got -2000"),
        ("5*hf + 6*hf", "expected coefficients from -10 to 10, got 11"),
        ("0*pbe", "contains no functional"),
        ("0*b3lyp", "contains no functional"),
        ("hf - hf", "contains no functional"),
        ("1_0*pbe", "got an underscore"),
        ("hf*0_1", "got an underscore"),
        ("wb97x-d", "dispersion correction or a composite method that PySCF does not have"),
        ("wB97X-D", "or 'hyb_gga_xc_wb97x_d', the functional alone"),
    ],
)
def test_refused_in_one_line(xc: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as info:
        describe(xc)
    assert "\n" not in str(info.value)
    assert info.value.exit_code == 2
    if xc:
        assert xc in str(info.value)


def test_every_libxc_name_is_described_or_refused() -> None:
    """No libxc name ends in another exception, and none without an energy gets through."""
    accepted = set()
    for name in libxc.available_libxc_functionals():
        try:
            spec = describe(name.lower())
        except InputError:
            continue
        accepted.add(name)
        assert spec.components == ((name, 1.0),)
        assert spec.kind in NVAR
    assert len(accepted) > 450
    assert not accepted & POTENTIAL_ONLY
    assert not [name for name in accepted if "_K_" in name or "_2D" in name]


def test_engine_choice() -> None:
    assert make_functional(describe("hf"), unrestricted=False) is None
    assert isinstance(make_functional(describe("b3lyp5"), unrestricted=True), SemilocalFunctional)
    assert isinstance(make_functional(describe("m06-2x"), unrestricted=True), LibxcFunctional)
    forced = make_functional(describe("pbe"), unrestricted=False, engine="libxc")
    assert isinstance(forced, LibxcFunctional)
    with pytest.raises(InputError, match="got 'HYB_MGGA_X_M06_2X'; use libxc"):
        make_functional(describe("m06-2x"), unrestricted=False, engine="torch")
    with pytest.raises(InputError, match="no semilocal part"):
        LibxcFunctional(describe("hf"), unrestricted=False)


@pytest.mark.parametrize("unrestricted", [False, True])
@pytest.mark.parametrize(
    "xc",
    [
        "lda,vwn",
        "b3lyp",
        "b3lyp5",
        "tpssh",
        "0.3*pbe,0.5*pbe+lyp",
        "0.5*HF + 0.5*B88, LYP",
        "0.25*hf + 0.75*pbesol, pbesol",
        "bp86",
        "camb3lyp",
        "hse06",
        "wb97x",
        "m06l",
        "scan0",
        "r2scan0",
        "0.6*rpbe + 0.4*pbe_r, 0.5*p86 + 0.5*pbe",
    ],
)
def test_the_two_engines_agree(xc: str, unrestricted: bool) -> None:
    spec = describe(xc)
    by_torch = make_functional(spec, unrestricted=unrestricted, engine="torch")
    by_libxc = make_functional(spec, unrestricted=unrestricted, engine="libxc")
    assert by_torch is not None
    assert by_libxc is not None
    rho = density(spec.kind, unrestricted)
    d1, d2 = 0.1 * rho, torch.flip(rho, (-1,))
    for ours, theirs in zip(by_torch.gradient(rho), by_libxc.gradient(rho), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(
        by_torch.second(rho, d1), by_libxc.second(rho, d1), rtol=1e-9, atol=1e-10
    )
    ours, theirs = by_torch.third(rho, d1, d2), by_libxc.third(rho, d1, d2)
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9 * theirs.abs().max().item())


@pytest.mark.parametrize("unrestricted", [False, True])
@pytest.mark.parametrize("xc", ["lda,pz", "bp86", "hse06", "camb3lyp", "r2scan", "m06-l"])
def test_libxc_derivatives_are_derivatives(xc: str, unrestricted: bool) -> None:
    functional = LibxcFunctional(describe(xc), unrestricted=unrestricted)
    rho = density(functional.kind, unrestricted, seed=1)
    rng = np.random.default_rng(2)
    d1, d2 = (torch.from_numpy(rng.normal(size=rho.shape)) * rho.abs() * 0.3 for _ in range(2))
    h = 1e-5
    f_plus, v_plus = functional.gradient(rho + h * d1)
    f_minus, v_minus = functional.gradient(rho - h * d1)
    rows = tuple(range(rho.ndim - 1))
    slope = (functional.gradient(rho)[1] * d1).sum(rows)
    assert slope.abs().max() > 1e-3
    torch.testing.assert_close(slope, (f_plus - f_minus) / (2 * h), rtol=1e-6, atol=1e-8)
    second = functional.second(rho, d1)
    size = second.abs().max().item()
    assert size > 1e-3
    torch.testing.assert_close(second, (v_plus - v_minus) / (2 * h), rtol=1e-5, atol=1e-6 * size)
    third = functional.third(rho, d1, d2)
    difference = functional.second(rho + h * d1, d2) - functional.second(rho - h * d1, d2)
    size = third.abs().max().item()
    torch.testing.assert_close(third, difference / (2 * h), rtol=1e-4, atol=1e-5 * size)
    torch.testing.assert_close(third, functional.third(rho, d2, d1), rtol=1e-9, atol=1e-11 * size)


def test_blocks_of_points_join_up(monkeypatch: pytest.MonkeyPatch) -> None:
    functional = LibxcFunctional(describe("bp86"), unrestricted=True)
    rho = density("GGA", True)
    whole = functional.second(rho, rho)
    monkeypatch.setattr("deeph_zero.integrals.libxc._BLOCK", 7)
    torch.testing.assert_close(functional.second(rho, rho), whole, rtol=0, atol=0)


def test_empty_space_is_zero_and_shapes_are_checked() -> None:
    functional = LibxcFunctional(describe("r2scan"), unrestricted=True)
    nothing = torch.zeros(2, 5, 3, dtype=torch.float64)
    f, v = functional.gradient(nothing)
    assert not f.any()
    assert not v.any()
    assert not functional.second(nothing, nothing + 1).any()
    with pytest.raises(InputError, match=r"expected shape \[2, 5, 'ngrids'\], got \[1, 5, 3\]"):
        functional.gradient(nothing[:1])


def test_spec_is_frozen() -> None:
    spec = describe("pbe")
    assert isinstance(spec, XCSpec)
    with pytest.raises(AttributeError):
        spec.hyb = 1.0  # pyright: ignore[reportAttributeAccessIssue]
