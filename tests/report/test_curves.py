"""Curves of a training: what is drawn of which column, and errors over the structures."""

from pathlib import Path

import numpy as np
import pytest

from deeph_zero.report import data
from deeph_zero.report.curves import FEW, errors_by_structure, training_curves

STEP = np.array([1.0, 2.0, 3.0, 4.0])


def source(metrics=None, errors=(), **entry):
    entries = [{"energy_error_estimate": e} | entry for e in errors]
    return data.Source(
        path=Path("run"), kind="run", summary_path=Path("summary.json"), summary={},
        structures=[data.Structure(entry=e) for e in entries], metrics=metrics or {}, model={},
        hdf5=None,
    )  # fmt: skip


def lines(figure):
    return {line.get_label(): np.array(line.get_data()) for line in figure.axes[0].lines}


@pytest.mark.parametrize(
    ("metrics", "names"),
    [
        ({}, []),
        ({"step": np.full(4, np.nan), "loss": STEP}, []),
        ({"step": STEP, "loss": STEP}, ["loss"]),
        ({"step": STEP, "loss": -STEP}, []),  # a logarithm has no place for it
        ({"step": STEP, "loss": np.full(4, np.nan)}, []),
        ({"step": STEP, "fock_builds": 0 * STEP}, ["fock_builds"]),
        ({"step": STEP, "gradient": STEP, "energy_error": STEP}, ["residual", "energy_error"]),
    ],
)
def test_what_was_recorded_is_drawn(metrics, names):
    assert list(training_curves(source(metrics))) == names


def test_gaps_and_numbers_that_have_no_logarithm_are_left_out():
    loss = np.array([4.0, np.nan, 0.0, 1.0])
    title, figure = training_curves(source({"step": STEP, "loss": loss}))["loss"]
    assert title == "Training loss"
    (drawn,) = lines(figure).values()
    np.testing.assert_array_equal(drawn, [[1, 4], [4, 1]])
    assert figure.axes[0].get_yscale() == "log"
    assert figure.axes[0].get_legend() is None


def test_counts_are_linear():
    _, figure = training_curves(source({"step": STEP, "fock_builds": 0 * STEP}))["fock_builds"]
    assert figure.axes[0].get_yscale() == "linear"
    np.testing.assert_array_equal(next(iter(lines(figure).values())), [STEP, 0 * STEP])


def test_the_certificates_stand_at_the_last_step():
    metrics = {"step": STEP, "residual": STEP, "gradient": STEP, "energy_error": STEP}
    plots = training_curves(source(metrics, [1e-5, 3e-5, None], orbital_gradient_rms=2e-4))
    drawn = lines(plots["residual"][1])
    assert set(drawn) == {"residual H − F", "orbital gradient", "certificate"}
    np.testing.assert_allclose(drawn["certificate"].ravel(), [4, 2e-4])
    np.testing.assert_allclose(lines(plots["energy_error"][1])["certificate"].ravel(), [4, 2e-5])
    assert plots["residual"][1].axes[0].get_legend() is not None


def test_errors_are_sorted_and_few_are_not_drawn():
    assert errors_by_structure(source(errors=[1e-5] * (FEW - 1))) is None
    assert errors_by_structure(source(errors=[1e-5, None, 0.0, -1e-6, 1e-7])) is None
    figure = errors_by_structure(source(errors=[3e-5, None, 1e-6, 2e-4]))
    assert figure is not None
    (drawn,) = lines(figure).values()
    np.testing.assert_allclose(drawn, [[1, 2, 3], [1e-6, 3e-5, 2e-4]])
