"""Separable operators through reciprocal space, against integrals of Gaussians in closed form."""

import numpy as np
import pytest

from deeph_zero.integrals.periodic import separable
from deeph_zero.integrals.periodic.separable import (
    Projectors,
    separable_matrix,
    sphere_radius,
    within_sphere,
)

LATTICE = np.array([[6.0, 0.3, 0.0], [-0.4, 6.5, 0.2], [0.1, 0.0, 5.8]])
RECIPROCAL = 2 * np.pi * np.linalg.inv(LATTICE).T
SHAPE = (17, 18, 17)
PLACES = np.array([[0.2, 0.1, -0.3], [2.9, 3.1, 2.5]])
KPT = np.array([0.13, -0.21, 0.08])


def mesh():
    counts = [np.fft.fftfreq(n, 1 / n) for n in SHAPE]
    return np.stack(np.meshgrid(*counts, indexing="ij"), -1).reshape(-1, 3) @ RECIPROCAL


def gaussian(vectors, exponent):
    """Transform of exp(-a r²)."""
    square = (vectors**2).sum(1)
    return (np.pi / exponent) ** 1.5 * np.exp(-square / (4 * exponent))


class TwoWidths:
    """Two Gaussians as projectors, coupled to each other."""

    strengths = np.array([[1.2, -0.4], [-0.4, 0.7]])

    def at(self, vectors):
        return np.stack([gaussian(vectors, a) for a in (0.9, 0.5)])


def functions(vectors, kpt):
    """An s Gaussian on each atom."""
    waves = np.exp(-1j * (vectors + kpt) @ PLACES.T)
    return waves * np.stack([gaussian(vectors + kpt, a) for a in (0.6, 0.45)], 1)


def overlap(a, b, apart):
    """<exp(-a r²)|exp(-b (r - d)²)>."""
    return (np.pi / (a + b)) ** 1.5 * np.exp(-a * b / (a + b) * (apart @ apart))


def bloch(exponent, own, b, place):
    """Σ_T exp(ik·T) of the overlap of a projector at ``own`` and the image of a function."""
    cells = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    found = 0j
    for t in cells @ LATTICE:
        found += np.exp(1j * KPT @ t) * overlap(exponent, b, place + t - own)
    return found


@pytest.mark.parametrize("chunk", [20_000, 100])
def test_the_matrix_is_that_of_the_overlaps(chunk, monkeypatch):
    monkeypatch.setattr(separable, "CHUNK", chunk)
    kind = TwoWidths()
    assert isinstance(kind, Projectors)
    atoms = [(kind, PLACES)]
    volume = abs(np.linalg.det(LATTICE))
    found = separable_matrix(functions, mesh(), KPT, volume, atoms)
    wanted = np.zeros((2, 2), dtype=complex)
    for own in PLACES:
        o = np.array(
            [
                [bloch(a, own, b, place) for b, place in zip((0.6, 0.45), PLACES, strict=True)]
                for a in (0.9, 0.5)
            ]
        )
        wanted += o.conj().T @ kind.strengths @ o
    assert abs(wanted[0, 1].imag) > 1e-3
    np.testing.assert_allclose(found, wanted, atol=1e-8)
    np.testing.assert_allclose(found, found.conj().T, atol=1e-12)


def test_a_sphere_treats_k_and_minus_k_alike():
    vectors = mesh()
    radius = sphere_radius(RECIPROCAL, SHAPE)
    kpt = np.array([0.5, 0.5, -0.5]) @ RECIPROCAL
    inside = within_sphere(vectors, kpt, RECIPROCAL, SHAPE)
    mirrored = within_sphere(vectors, -kpt, RECIPROCAL, SHAPE)
    one = {tuple(np.round(v, 6)) for v in inside + kpt}
    other = {tuple(np.round(v, 6) + 0.0) for v in -(mirrored - kpt)}
    assert one == other
    assert len(inside) > 500
    assert np.linalg.norm(inside + kpt, axis=1).max() <= radius


class Counting:
    """One Gaussian of some width, and how often its transform was asked for."""

    def __init__(self, exponent, strength):
        self.exponent, self.strengths, self.calls = exponent, np.array([[strength]]), 0

    def at(self, vectors):
        self.calls += 1
        return gaussian(vectors, self.exponent)[None]


def test_kinds_of_atoms_add_up_and_are_transformed_once():
    vectors, volume = mesh(), abs(np.linalg.det(LATTICE))
    wide, narrow = Counting(0.5, 0.7), Counting(1.1, -1.3)
    third = np.array([[1.1, -0.7, 0.4]])

    def matrix(*atoms):
        return separable_matrix(functions, vectors, KPT, volume, atoms)

    both = matrix((wide, PLACES), (narrow, third))
    assert (wide.calls, narrow.calls) == (1, 1)
    singles = [matrix((wide, PLACES[:1])), matrix((wide, PLACES[1:])), matrix((narrow, third))]
    assert all(np.abs(one).max() > 1e-3 for one in singles)
    np.testing.assert_allclose(both, sum(singles), atol=1e-13)
    np.testing.assert_allclose(matrix((wide, PLACES[:0]), (narrow, third)), singles[2], atol=1e-13)
