"""The infrared spectrum of a report."""

import numpy as np
import pytest

from deeph_zero.report import page
from deeph_zero.report.spectrum import WIDTH, spectrum


def test_the_curve_holds_the_intensities():
    figure = spectrum({"frequencies": [-80.0, 900.0, 3000.0], "ir_intensities": [9.0, 5.0, 7.0]})
    axes = figure.axes[0]
    x, y = axes.lines[0].get_data()
    integral = np.trapezoid(y, x)
    # an imaginary frequency is no line; Lorentzian wings leave some percent outside
    assert integral == pytest.approx(12.0, rel=0.03)
    assert axes.get_xlim()[0] > axes.get_xlim()[1]
    peak = y[np.abs(x - 3000).argmin()]
    assert peak == pytest.approx(7.0 / (np.pi * WIDTH / 2), rel=0.02)


def test_what_symmetry_forbids_is_no_line():
    """A homonuclear molecule: what rounding leaves of its one line looked like a strong one."""
    axes = spectrum({"frequencies": [4800.0], "ir_intensities": [2e-26]}).axes[0]
    assert not axes.lines[0].get_ydata().any()
    assert [text.get_text() for text in axes.texts] == ["no line absorbs"]


@pytest.mark.parametrize(
    "entry", [{}, {"frequencies": [], "ir_intensities": []}, {"frequencies": None}]
)
def test_nothing_is_drawn_of_nothing(entry):
    assert spectrum(entry) is None


def test_a_page_has_it():
    close = page._Close.__new__(page._Close)
    close.structure = page.Structure(entry={"frequencies": [900.0], "ir_intensities": [5.0]})
    assert set(page._spectra(close)) == {"spectrum"}
    close.structure = page.Structure(entry={})
    assert page._spectra(close) == {}
