"""Pictures of bands: eV about the Fermi level, jumps of the path, densities of states."""

import numpy as np
import pytest

from deeph_zero.report.bands import bands_figure
from deeph_zero.report.figures import write_png
from deeph_zero.units import HARTREE_IN_EV

AT = np.array([0.0, 0.5, 1.0, 1.0, 1.5])
TICKS = (np.array([0.0, 1.0, 1.0, 1.5]), ("G", "X", "M", "G"))
ENERGIES = np.linspace(-0.3, 0.2, 10).reshape(1, 5, 2)


@pytest.mark.parametrize("fermi", [None, -0.1])
def test_energies_count_from_the_fermi_level(fermi):
    (axes,) = bands_figure(AT, ENERGIES, TICKS, fermi).axes
    drawn = [line for line in axes.lines if len(line.get_xdata()) in (3, 2) and line.get_color()]
    first = drawn[0].get_ydata()
    expected = (ENERGIES[0, :3, 0] - (fermi or 0.0)) * HARTREE_IN_EV
    np.testing.assert_allclose(first, expected)
    assert ("Fermi" in axes.get_ylabel()) is (fermi is not None)
    level = [line for line in axes.lines if line.get_linestyle() == "--"]
    assert len(level) == (fermi is not None)
    assert axes.get_xlim() == (0.0, 1.5)


def test_no_line_is_drawn_over_a_jump_of_the_path():
    (axes,) = bands_figure(AT, ENERGIES, TICKS, None).axes
    parts = sorted(tuple(line.get_xdata()) for line in axes.lines)
    assert parts == [(0.0, 0.5, 1.0)] * 2 + [(1.0, 1.5)] * 2
    assert axes.get_xticks().tolist() == [0.0, 1.0, 1.5]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["Γ", "X|M", "Γ"]


@pytest.mark.parametrize("spins", [1, 2])
def test_states_stand_on_the_same_axis_per_ev(spins):
    energies = np.concatenate([ENERGIES + 0.05 * k for k in range(spins)])
    grid, states = np.linspace(-1, 1, 7), np.arange(7.0 * spins).reshape(spins, 7)
    left, right = bands_figure(AT, energies, TICKS, 0.1, (grid, states)).axes
    assert len({line.get_color() for line in right.lines}) == spins
    for line, spin in zip(right.lines, states, strict=True):
        np.testing.assert_allclose(line.get_xdata(), spin / HARTREE_IN_EV)
        np.testing.assert_allclose(line.get_ydata(), (grid - 0.1) * HARTREE_IN_EV)
    assert left.get_ylim() == right.get_ylim()
    assert right.get_xlim()[0] == 0.0


def test_both_spins_are_named_and_seen():
    both = np.concatenate([ENERGIES, ENERGIES])
    figure = bands_figure(AT, both, TICKS, 0.1)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["spin up", "spin down"]
    lines = legend.get_lines()
    assert len({line.get_color() for line in lines}) == 2
    assert len({str(line.get_linestyle()) for line in lines}) == 2
    assert not bands_figure(AT, ENERGIES, TICKS, 0.1).legends


def test_spins_with_levels_of_their_own_have_a_line_each():
    both = np.concatenate([ENERGIES, ENERGIES])
    (axes,) = bands_figure(AT, both, TICKS, 0.1, fermi_of_spins=[0.3, -0.1]).axes
    levels = [line for line in axes.lines if len(set(line.get_ydata())) == 1][-2:]
    at = [line.get_ydata()[0] / HARTREE_IN_EV for line in levels]
    np.testing.assert_allclose(at, [0.2, -0.2], atol=1e-12)
    assert levels[0].get_color() != levels[1].get_color()
    assert "mean Fermi level" in axes.get_ylabel()


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_both_edges_of_a_wide_gap_are_in_the_picture(shift):
    energies = ENERGIES + np.array([-shift, shift])
    (axes,) = bands_figure(AT, energies, TICKS, 0.0).axes
    low, high = axes.get_ylim()
    edges = np.array([energies[energies <= 0].max(), energies[energies > 0].min()])
    assert low < edges[0] * HARTREE_IN_EV < edges[1] * HARTREE_IN_EV < high
    assert ((low, high) == (-15.0, 10.0)) is (shift == 0.0)


def test_a_png_is_whole_and_opaque(tmp_path):
    from PIL import Image

    path = tmp_path / "b.png"
    write_png(bands_figure(AT, ENERGIES, TICKS, None), path)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGBA"))
    assert (pixels[..., 3] == 255).all()
    assert tuple(pixels[0, 0, :3]) == (255, 255, 255)
    assert [p.name for p in tmp_path.iterdir()] == ["b.png"]
