"""The constant potential of crystals, from composition and density."""

import math

import pytest

from deeph_zero.prepared.constant import LevelConstant

CO = [6, 8]


def test_what_follows_the_form_is_found():
    """Second moments per volume: unlike cells, of which no two have the same density."""
    kinds = ((1, 1, 1), (2, 1, 1.5), (1, 3, 0.6), (4, 2, 3.0), (1, 2, 0.8), (2, 3, 2.0))
    cells = [([6] * n + [8] * m, 90.0 * (n + m) * x) for n, m, x in kinds]

    def exact(numbers, volume):
        return 0.01 + (3.0 * numbers.count(6) - 1.5 * numbers.count(8)) / volume

    found = LevelConstant.fitted([(n, v, exact(n, v)) for n, v in cells])
    for numbers, volume in [*cells, ([6, 6, 8, 8, 8], 700.0)]:
        assert found.of(numbers, volume) == pytest.approx(exact(numbers, volume), abs=4e-4)
    assert abs(exact(*cells[2]) - exact(*cells[3])) > 5e-3


def test_alike_ones_have_their_mean():
    """Also a supercell, and a cell that is a little strained: noise is no slope."""
    found = LevelConstant.fitted([(CO, 200.0, -0.012), (CO, 200.2, -0.010)])
    assert found.of(CO, 200.1) == pytest.approx(-0.011)
    assert found.of(CO * 4, 800.4) == pytest.approx(-0.011)
    assert found.of(CO, 220.0) == pytest.approx(-0.011, abs=5e-4)


def test_layers_have_no_volume():
    found = LevelConstant.fitted([(CO, math.inf, 0.02), ([6], math.inf, 0.01)])
    assert found.of(CO, math.inf) == pytest.approx(0.02, abs=1e-4)
    assert LevelConstant().of(CO, math.inf) == 0.0
