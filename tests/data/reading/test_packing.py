"""Molecules put beside each other: rigid, at contact, opposite charges together."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist

from deeph_zero.data.reading.packing import Body, packed


def bodies(rng, sizes):
    return [Body(1.2 * rng.normal(size=(n, 3)), rng.uniform(1, 2, n), np.zeros(n)) for n in sizes]


@pytest.mark.parametrize("sizes", [(4, 3), (5, 4, 1, 1), (1, 1, 1), (7, 6, 2)])
def test_each_touches_what_is_there_and_nothing_overlaps(sizes):
    given = bodies(np.random.default_rng(3), sizes)
    places = packed(given)
    for body, place in zip(given, places, strict=True):
        np.testing.assert_allclose(pdist(place), pdist(body.positions), atol=1e-12)
    for k in range(1, len(given)):
        gaps = [
            (cdist(places[j], places[k]) - given[j].radii[:, None] - given[k].radii).min()
            for j in range(k)
        ]
        assert min(gaps) == pytest.approx(0, abs=1e-12)
    for place, again in zip(places, packed(given), strict=True):
        assert np.array_equal(place, again)


def test_an_ion_goes_to_the_opposite_charge():
    rod = np.array([[0, 0, 0], [0, 0.1, 1.5], [0.1, 0, 3.0], [0, 0.2, 4.6]])
    body = Body(rod, np.full(4, 1.5), np.array([1.0, 0, 0, -1]))
    for charge, end in ((1.0, 3), (-1.0, 0)):
        there, ion = packed([body, Body(np.zeros((1, 3)), np.ones(1), np.array([charge]))])
        assert cdist(there, ion).argmin() == end


def test_a_salt_alternates():
    ions = [Body(np.zeros((1, 3)), np.ones(1), np.array([q])) for q in (1.0, -1.0, 1.0, -1.0)]
    x = np.concatenate(packed(ions))
    distance, charge = cdist(x, x) + 99 * np.eye(4), np.array([1, -1, 1, -1])
    assert all(charge[k] == -charge[distance[k].argmin()] for k in range(4))
