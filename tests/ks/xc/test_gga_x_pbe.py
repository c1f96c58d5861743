"""PBE exchange and kin: enhancement factors, the bound they obey, and the hydrogen atom."""

import math

import pytest
import torch

from .rows import energy, enhancement, one_s

S = torch.tensor([0.0, 1e-4, 0.3, 1.0, 2.5, 8.0, 300.0], dtype=torch.float64)
CASES = {
    "GGA_X_PBE": (0.804, 0.2195149727645171, -0.3059),
    "GGA_X_PBE_R": (1.245, 0.2195149727645171, -0.3105),
    "GGA_X_PBE_SOL": (0.804, 10 / 81, -0.2927),
}
"""kappa, mu, and hydrogen's energy: S. Kurth, J. P. Perdew, P. Blaha, Int. J. Quantum Chem. 75,
889 (1999), table I; that of PBEsol by the same quadrature with the printed formula."""
cases = pytest.mark.parametrize(
    ("name", "kappa", "mu", "hydrogen"), [(n, *c) for n, c in CASES.items()]
)


@cases
def test_enhancement_is_the_printed_one(name, kappa, mu, hydrogen):
    del hydrogen
    wanted = 1 + kappa - kappa / (1 + mu * S**2 / kappa)
    torch.testing.assert_close(enhancement(name, S), wanted, rtol=1e-13, atol=0)
    assert float(enhancement(name, S)[-1]) < 1 + kappa


@cases
def test_hydrogen(name, kappa, mu, hydrogen):
    rows, weights = one_s()
    assert energy(name, rows, weights) == pytest.approx(hydrogen, abs=5e-5)
    inside = rows[0, 0] > 1e-14
    n, slope, weights = rows[0, 0][inside], rows[0, 1][inside], weights[inside]
    # of one spin: the closed shell of twice the density, halved
    s2 = (2 * slope) ** 2 / (4 * (3 * math.pi**2) ** (2 / 3) * (2 * n) ** (8 / 3))
    lda = -0.75 * (3 / math.pi) ** (1 / 3) * (2 * n) ** (4 / 3)
    wanted = 0.5 * float((lda * (1 + kappa - kappa / (1 + mu * s2 / kappa))) @ weights)
    assert energy(name, rows[..., inside], weights) == pytest.approx(wanted, rel=1e-10)


def test_the_uniform_gas_response_is_kept():
    """mu cancels PBE correlation's gradient term: mu = beta pi^2 / 3."""
    small = torch.tensor([1e-2], dtype=torch.float64)
    found = float(enhancement("GGA_X_PBE", small)) - 1
    assert found / 1e-4 == pytest.approx(0.06672455060314922 * math.pi**2 / 3, rel=1e-4)


def test_more_room_or_less_slope():
    pbe, revised, solids = (enhancement(name, S[2:]) for name in CASES)
    assert bool((revised > pbe).all())
    assert bool((solids < pbe).all())
