"""A functional on a crystal's points: pieces of them, weights of each, and its derivatives."""

import pytest
import torch

from deeph_zero.ks.periodic.terms import semilocal
from deeph_zero.ks.periodic.terms.semilocal import Semilocal
from deeph_zero.ks.xc.registry import combine

from ...made_up import Quartic  # noqa: TID252
from ..made_up import difference, random  # noqa: TID252

WEIGHTS = torch.linspace(0.2, 1.0, 24, dtype=torch.float64)
SPINS = pytest.mark.parametrize("nspin", [1, 2])


def rho_of(nspin, seed=0):
    rho = random(nspin, 5, 24, seed=seed)
    rho[:, 0] = rho[:, 0].abs() + 0.3
    return rho


@SPINS
@pytest.mark.parametrize("weight", [0.7, WEIGHTS], ids=["uniform", "each"])
def test_energy_and_potential_are_the_functionals(nspin, weight):
    term, rho = Semilocal(weight, Quartic()), rho_of(nspin)
    energy, rows = term.energy_and_rows(rho)
    f, first = Quartic().gradient(rho[:, :4])
    assert term.nvar == 4  # tau is not looked at
    assert float(energy) == pytest.approx(float((f * weight).sum()), rel=1e-12)
    torch.testing.assert_close(rows, first)


@SPINS
@pytest.mark.parametrize("points", [1, 7, 24])
def test_pieces_of_the_points_are_the_whole(nspin, points, monkeypatch):
    term = Semilocal(WEIGHTS, Quartic())
    rho, d1, d2 = (rho_of(nspin, seed) for seed in (0, 1, 2))
    whole = *term.energy_and_rows(rho), term.response(rho, d1), term.second(rho, d1, d2)
    monkeypatch.setattr(semilocal, "POINTS", points)
    parts = *term.energy_and_rows(rho), term.response(rho, d1), term.second(rho, d1, d2)
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other)


@SPINS
def test_responses_are_derivatives(nspin):
    term = Semilocal(1.0, Quartic())
    rho, d1, d2 = (rho_of(nspin, seed) for seed in (0, 1, 2))
    change = difference(lambda t: term.energy_and_rows(rho + t * d1)[1])
    torch.testing.assert_close(term.response(rho, d1), change, rtol=1e-8, atol=1e-8)
    change = difference(lambda t: term.response(rho + t * d2, d1))
    torch.testing.assert_close(term.second(rho, d1, d2), change, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("name", "nvar"), [("LDA_X", 1), ("GGA_X_PBE", 4), ("MGGA_X_TPSS", 5)])
def test_it_reads_as_many_rows_as_its_kind(name, nvar):
    functional = combine([(name, 1.0)], unrestricted=False)
    term, rho = Semilocal(1.0, functional), rho_of(1)
    rho[:, 4] = 9.0
    assert term.nvar == nvar
    energy, rows = term.energy_and_rows(rho)
    assert rows.shape == (1, nvar, 24)
    assert float(energy) == pytest.approx(float(functional.gradient(rho[:, :nvar])[0].sum()))
