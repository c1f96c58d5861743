"""Lines through the Brillouin zone."""

import numpy as np
import pytest

from deeph_zero.errors import InputError
from deeph_zero.kohnsham.k_path import k_path

SQUARE = np.diag([5.0, 5.0, 30.0])
LAYER = (True, True, False)


def test_a_path_goes_through_the_points_that_it_names():
    found = k_path(SQUARE, LAYER, "GXM", 9)
    assert (found.path, found.labels) == ("GXM", ("G", "X", "M"))
    assert len(found.kpts) == len(found.distances) == 9
    assert found.distances[0] == found.ticks[0] == 0.0
    assert (np.diff(found.distances) > 0).all()
    at = [int(np.abs(found.distances - x).argmin()) for x in found.ticks]
    expected = [[0, 0, 0], [0, 0.5, 0], [0.5, 0.5, 0]]
    np.testing.assert_allclose(found.kpts[at], expected, atol=1e-12)
    assert found.ticks[1] == pytest.approx(np.pi / 5.0, rel=1e-9)


def test_a_comma_is_a_jump():
    found = k_path(SQUARE, LAYER, "GX,MG", 8)
    steps = np.diff(found.distances)
    assert (steps == 0).sum() == 1


def test_a_line_without_points_of_its_own_is_no_jump(caplog):
    """A long cell: its short lines got none of 60 points and looked like jumps."""
    found = k_path(np.diag([4.0, 5.0, 90.0]), (True, True, True))
    assert (np.diff(found.distances) == 0).sum() == found.path.count(",") == 3
    assert len(found.kpts) > 60
    assert f"{len(found.kpts)} are taken" in caplog.text
    few = k_path(SQUARE, LAYER, "GX,MG", 4)
    np.testing.assert_allclose(few.ticks, np.pi / 5 * np.array([0, 1, 1, 1 + 2**0.5]), rtol=1e-9)
    assert few.labels == ("G", "X", "M", "G")


@pytest.mark.parametrize(
    ("path", "points", "message"),
    [
        ("GQ", 10, "special points out of"),
        ("GX,", 10, "special points out of"),
        ("GXMG", 3, "at least 4 k-points"),
        ("GX", 1, "2 to"),
        ("G", 10, "two special points or more, got 'G' in 'G'"),
        ("GX,M", 10, "two special points or more, got 'M' in 'GX,M'"),
        ("G,X", 10, "two special points or more, got 'G' in 'G,X'"),
        ("GXXM", 10, "two special points or more, got 'GXXM' in 'GXXM'"),
    ],
)
def test_what_cannot_be_walked_is_refused(path, points, message):
    with pytest.raises(InputError, match=message):
        k_path(SQUARE, LAYER, path, points)
