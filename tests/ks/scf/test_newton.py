"""Steps in a trust region on quadratic models whose minimum is known."""

import pytest
import torch

from deeph_zero.ks.response.orbital_rotation import Rotations
from deeph_zero.ks.scf.newton import TrustRegion

SIZE = 6


class Model(Rotations):
    """A quadratic energy of some rotations."""

    def __init__(self, gradient, matrix):
        self.gradient, self.diagonal, self.matrix = gradient, matrix.diagonal(), matrix
        self.products = 0

    def hessian(self, x):
        self.products += 1
        return self.matrix @ x

    def energy(self, x):
        return float(self.gradient @ x + 0.5 * x @ self.matrix @ x)


def model(lowest, seed=0, size=1.0):
    """One with a given lowest curvature."""
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))
    levels = torch.linspace(0.8, 3.0, SIZE, dtype=torch.float64)
    levels[0] = lowest
    gradient = size * torch.randn(SIZE, generator=generator, dtype=torch.float64)
    return Model(gradient, (q * levels) @ q.mT)


def test_a_small_gradient_leads_to_newtons_step():
    rotations = model(0.5, size=1e-5)
    x, predicted, at_boundary = TrustRegion(rotations).step(10.0)
    newton = -torch.linalg.solve(rotations.matrix, rotations.gradient)
    assert not at_boundary
    assert float((x - newton).norm()) < 0.02 * float(newton.norm())
    assert predicted == pytest.approx(rotations.energy(x), rel=1e-9)


@pytest.mark.parametrize("lowest", [0.5, -0.7])
@pytest.mark.parametrize("radius", [0.02, 0.3])
def test_steps_end_on_the_boundary_and_say_what_they_gain(lowest, radius):
    rotations = model(lowest)
    region = TrustRegion(rotations)
    x, predicted, at_boundary = region.step(radius)
    assert at_boundary
    assert region.length(x) == pytest.approx(radius)
    assert predicted == pytest.approx(rotations.energy(x), rel=1e-9)
    along = -rotations.gradient / rotations.diagonal.abs()
    lengths = torch.linspace(0, radius / region.length(along), 200, dtype=torch.float64)
    cauchy = min(rotations.energy(t * along) for t in lengths)
    assert predicted <= cauchy + 1e-9  # no worse than the best step downhill
    used = rotations.products
    smaller, gain, _ = region.step(0.25 * radius)
    assert rotations.products == used  # a smaller radius costs nothing
    assert region.length(smaller) == pytest.approx(0.25 * radius)
    assert predicted < gain < 0


def test_negative_curvature_is_followed_however_wide_the_region():
    rotations = model(-0.7)
    region = TrustRegion(rotations)
    x, predicted, at_boundary = region.step(50.0)
    assert at_boundary
    assert region.length(x) == pytest.approx(50.0)
    assert predicted == pytest.approx(rotations.energy(x), rel=1e-9)
    assert float(x @ rotations.matrix @ x) < 0
