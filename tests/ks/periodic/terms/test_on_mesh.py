"""Energies on a grid as one term: sums of made-up potentials, and derivatives by matrices."""

import pytest
import torch

from deeph_zero.ks.periodic.grid import density_rows
from deeph_zero.ks.periodic.terms.on_mesh import MeshTerm
from deeph_zero.ks.periodic.terms.potential import Potential
from deeph_zero.ks.periodic.types import weighted_trace
from deeph_zero.ks.terms.term import Density

from ..made_up import WEIGHTS, Values, bloch_matrix, density, difference  # noqa: TID252

at_k = Density.at_k_points
POINTS = torch.linspace(0.5, 1.5, 24, dtype=torch.float64)
"""Weights of a grid that is not uniform."""


class Cube:
    """Σ w (Σ_s ρ_s)³ / 6."""

    name, nvar = "cube", 1

    def __init__(self, weight):
        self.weight = weight

    def energy_and_rows(self, rho):
        total = rho[:, 0].sum(0)
        rows = (total**2 / 2).expand(len(rho), 1, -1)
        return (self.weight * total**3).sum() / 6, rows

    def response(self, rho, d):
        return (rho[:, 0].sum(0) * d[:, 0].sum(0)).expand(len(rho), 1, -1)

    def second(self, rho, d1, d2):
        return (d1[:, 0].sum(0) * d2[:, 0].sum(0)).expand(len(rho), 1, -1)


class Slopes:
    """Σ w ½ |∇ρ_s|² of each spin, and ½ τ² with five variables: linear, then quadratic."""

    name = "slopes"

    def __init__(self, weight, nvar):
        self.weight, self.nvar = weight, nvar

    def energy_and_rows(self, rho):
        rows = torch.zeros_like(rho[:, : self.nvar])
        rows[:, 1:4] = rho[:, 1:4]
        energy = 0.5 * rho[:, 1:4].square().sum((0, 1))
        if self.nvar == 5:
            rows[:, 4] = rho[:, 4]
            energy = energy + 0.5 * rho[:, 4].square().sum(0)
        return (self.weight * energy).sum(), rows

    def response(self, rho, d):
        del rho
        return self.energy_and_rows(d)[1]

    def second(self, rho, d1, d2):
        del rho, d1, d2


def term(weight, *nvars):
    potentials = [Cube(weight) if n == 1 else Slopes(weight, n) for n in nvars]
    assert all(isinstance(one, Potential) for one in potentials)
    return MeshTerm(Values(), WEIGHTS, weight, potentials)


CASES = pytest.mark.parametrize(
    ("weight", "nvars"),
    [(1.25, (1,)), (POINTS, (1, 4)), (POINTS, (5, 1)), (0.3, (4,))],
    ids=["LDA", "LDA and GGA", "meta-GGA and LDA", "GGA"],
)
SPINS = pytest.mark.parametrize("nspin", [1, 2])


@SPINS
@CASES
def test_energies_matrices_and_electrons(weight, nvars, nspin):
    one, dm = term(weight, *nvars), bloch_matrix(nspin)
    assert one.nvar == max(nvars)
    built = one.build(dm)
    rho = density_rows(Values(), WEIGHTS, dm, one.nvar)
    torch.testing.assert_close(built.rho, rho)
    torch.testing.assert_close(rho[:, 0], density(dm))
    parts = {p.name: float(p.energy_and_rows(rho)[0]) for p in one.potentials}
    assert {k: float(e) for k, e in built.parts.items()} == pytest.approx(parts)
    found = one.energy_and_fock(at_k(dm))
    assert float(found.energy) == pytest.approx(sum(parts.values()))
    assert float(found.electrons) == pytest.approx(float((rho[:, 0] * weight).sum()))
    assert found.parts.keys() == parts.keys()


@SPINS
@CASES
def test_every_matrix_is_the_derivative_of_what_stands_before(weight, nvars, nspin):
    one, dm = term(weight, *nvars), bloch_matrix(nspin)
    d1, d2 = (bloch_matrix(nspin, seed=s) for s in (7, 8))
    slope = difference(lambda t: one.energy_and_fock(at_k(dm + t * d1)).energy)
    fock = one.energy_and_fock(at_k(dm)).fock
    assert float(weighted_trace(WEIGHTS, fock, d1)) == pytest.approx(float(slope), rel=1e-8)
    response = one.response(at_k(dm), at_k(d1))
    wanted = difference(lambda t: one.energy_and_fock(at_k(dm + t * d1)).fock)
    torch.testing.assert_close(response, wanted, rtol=1e-8, atol=1e-8)
    second = one.second(at_k(dm), at_k(d1), at_k(d2))
    wanted = difference(lambda t: one.response(at_k(dm + t * d2), at_k(d1)))
    torch.testing.assert_close(second, wanted, rtol=1e-7, atol=1e-7)
    assert bool(second.any()) == (1 in nvars)


def test_blocks_do_not_matter():
    dm = bloch_matrix()
    whole = MeshTerm(Values((24,)), WEIGHTS, 1.0, [Cube(1.0)]).build(dm)
    parts = MeshTerm(Values((1, 20, 3)), WEIGHTS, 1.0, [Cube(1.0)]).build(dm)
    torch.testing.assert_close(whole.contribution.fock, parts.contribution.fock)


def test_without_potentials_there_is_a_density():
    one, dm = MeshTerm(Values(), WEIGHTS, 2.0, []), bloch_matrix()
    built = one.build(dm)
    assert built.parts == {}
    assert float(built.contribution.energy) == 0
    assert not built.contribution.fock.any()
    assert float(built.contribution.electrons) == pytest.approx(2 * float(density(dm).sum()))
