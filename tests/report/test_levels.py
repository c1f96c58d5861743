"""The ladder of levels: what is filled, what is named, what is out of the window."""

import numpy as np
import pytest

from deeph_zero.report import levels
from deeph_zero.report.data import Matrices
from deeph_zero.report.figures import BLUE, ORANGE
from deeph_zero.report.levels import SAME, ladder
from deeph_zero.units import HARTREE_IN_EV


def matrices(energies, occupations):
    energies, occ = np.array(energies, float), np.array(occupations, float)
    n = energies.shape[-1]
    dm = np.zeros((*energies.shape[:-1], n, n))
    return Matrices(
        numbers=np.array([8]), coords=np.zeros((1, 3)), charge=0, spin=0, basis="",
        overlap=np.eye(n), fock=dm, fock_rebuilt=None, dm=dm, mo_energy=energies, mo_occ=occ,
    )  # fmt: skip


def steps(axes):
    """Energy, first and last x, colour of every step."""
    from matplotlib import colors

    found = []
    for collection in axes.collections:
        ((start, end),) = [path.vertices for path in collection.get_paths()]
        colour = colors.to_hex(collection.get_colors()[0])
        found.append((float(start[1]), float(start[0]), float(end[0]), colour))
    return found


def names(axes):
    return [t.get_text() for t in axes.texts if t.get_text()]


def test_levels_about_the_gap_are_filled_and_empty():
    figure = ladder(matrices([-20.0, -0.9, -0.5, 0.1, 5.0], [2, 2, 2, 0, 0]), "water")
    axes = figure.axes[0]
    drawn = steps(axes)
    assert [energy for energy, *_ in drawn] == [-0.9, -0.5, 0.1]
    assert [colour for *_, colour in drawn] == [BLUE, BLUE, ORANGE]
    assert names(axes) == ["HOMO -0.500", "LUMO 0.100"]
    assert axes.get_title(loc="left") == "water (1 deeper level not shown)"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["doubly occupied or empty"]
    low, high = axes.get_ylim()
    assert low < -0.9
    assert 0.1 < high < 5.0


def test_degenerate_levels_stand_side_by_side():
    close = SAME / 2
    figure = ladder(matrices([-0.5, -0.5 + close, -0.2, 0.1], [2, 2, 2, 0]), "x")
    first, second, third, _ = steps(figure.axes[0])
    assert first[2] < second[1], "one ends before the other begins"
    assert second[2] - first[1] <= third[2] - third[1] + 1e-9
    assert len(levels._groups(np.array([0.0, close, 3 * close, 1.0]), (-1.0, 2.0))) == 3


def test_two_spins_stand_beside_each_other():
    figure = ladder(matrices([[-0.6, -0.4, 0.2], [-0.5, 0.1, 0.3]], [[1, 1, 0], [1, 0, 0]]), "OH")
    axes = figure.axes[0]
    assert names(axes) == ["HOMO -0.400", "LUMO 0.200", "HOMO -0.500", "LUMO 0.100"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["α", "β"]
    drawn = steps(axes)
    assert max(end for _, _, end, _ in drawn[:3]) < min(start for _, start, _, _ in drawn[3:])


@pytest.mark.parametrize(
    ("occupations", "named"),
    [([2, 2], ["HOMO -0.100"]), ([0, 0], ["LUMO -0.400"])],
)
def test_without_filled_or_empty_levels_one_name_is_missing(occupations, named):
    axes = ladder(matrices([-0.4, -0.1], occupations), "He").axes[0]
    assert names(axes) == named


def test_the_right_axis_is_in_ev():
    assert levels._to_ev(np.array([2.0])) == pytest.approx(2 * HARTREE_IN_EV)
    assert levels._from_ev(levels._to_ev(np.array([0.3]))) == pytest.approx(0.3)
