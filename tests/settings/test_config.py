"""Settings: defaults of the design, ranges, and errors that name the option."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeph_zero.errors import InputError
from deeph_zero.settings.base import Settings, option_name
from deeph_zero.settings.config import (
    DataConfig,
    FitConfig,
    LabelConfig,
    MethodConfig,
    ModelConfig,
    PredictConfig,
    RuntimeConfig,
)


def test_defaults_are_the_promised_ones():
    method = MethodConfig()
    assert (method.basis, method.xc, method.auxbasis) == ("def2-svp", "pbe", None)
    assert (method.charge, method.spin, method.grid_level, method.density_fit) == (0, 0, 3, True)
    assert PredictConfig().certificate
    assert PredictConfig().coupled


def test_settings_cannot_be_changed_later():
    with pytest.raises(ValueError, match="frozen"):
        MethodConfig().basis = "sto-3g"  # pyright: ignore


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"method": {"grid_level": 12}},
            "--grid-level: expected a whole number from 0 to 9, got 12",
        ),
        (
            {"method": {"grid_level": 2.5}},
            "--grid-level: expected a whole number from 0 to 9, got 2.5",
        ),
        ({"method": {"spin": -1}}, "--spin: expected a whole number from 0 to 100, got -1"),
        ({"method": {"basis": " "}}, "--basis: expected a name, got ' '"),
        ({"method": {"xc": "pbe\n"}}, None),
        ({"method": {"xc": "p\nbe"}}, "--xc: expected a name, got 'p\\nbe'"),
        ({"runtime": {"threads": 0}}, "--threads: expected a whole number from 1 to 1024, got 0"),
        ({"runtime": {"device": "gpu"}}, "--device: expected auto, cpu, cuda or cuda:1, got 'gpu'"),
        ({"runtime": {"device": "cuda:x"}}, "--device: expected auto, cpu, cuda or cuda:1"),
        ({"runtime": {"max_time": "soon"}}, "--max-time: expected a positive time such as"),
        ({"runtime": {"max_time": 0}}, "--max-time: expected a positive time such as"),
        ({"runtime": {"seed": -1}}, "--seed: expected a whole number from 0 to 4294967295, got -1"),
        ({"conv_tol_grad": 0}, "--tol: expected a number above 0 and at most 1, got 0"),
        (
            {"conv_tol_grad": float("nan")},
            "--tol: expected a number above 0 and at most 1, got nan",
        ),
        ({"learning_rate": float("inf")}, "--learning-rate: expected a number above 0"),
        ({"steps": -3}, "--steps: expected a whole number from 1 up, got -3"),
        ({"epochs": 3, "steps": 4}, "--epochs and --steps exclude each other; got"),
        ({"loss": "enrgy"}, "did you mean energy?"),
        ({"los": "energy"}, "unknown setting 'los'; did you mean 'loss'?"),
        ({"method": {"bassis": "x"}}, "unknown setting 'method.bassis'; did you mean 'basis'?"),
        ({"zzz": 1}, "unknown setting 'zzz'; known are loss, epochs, steps"),
        ({"method": 3}, "--method: expected a section of settings, got 3"),
    ],
)
def test_one_line_that_names_the_option(values, message):
    if message is None:
        assert FitConfig.parse(values).method.xc == "pbe"
        return
    with pytest.raises(InputError) as info:
        FitConfig.parse(values)
    assert str(info.value).startswith(message) or message in str(info.value)
    assert len(str(info.value).splitlines()) == 1


def test_every_option_has_a_description():
    for model in (MethodConfig, RuntimeConfig, ModelConfig, DataConfig, FitConfig, PredictConfig,
                  LabelConfig):  # fmt: skip
        for name, field in model.model_fields.items():
            section = isinstance(field.default, Settings)
            assert section or field.description, f"{model.__name__}.{name}"


def test_json_round_trip():
    config = FitConfig.parse({"method": {"spin": 1}, "runtime": {"max_time": "1h30m"}, "steps": 7})
    assert config.runtime.max_time == 5400.0
    assert FitConfig.model_validate_json(config.model_dump_json()) == config


def outcome(function, argument) -> object:
    """The result, or the one line of the error."""
    try:
        return function(argument)
    except ValueError as error:
        return str(error)


@given(st.sampled_from(sorted(FitConfig.model_fields)), st.none() | st.text() | st.floats())
@settings(max_examples=50, deadline=None)
def test_any_value_is_accepted_or_refused_in_one_line(name, value):
    result = outcome(FitConfig.parse, {name: value})
    if isinstance(result, str):
        assert option_name(name) in result
        assert len(result.splitlines()) == 1
    else:
        assert isinstance(result, FitConfig)


@pytest.mark.parametrize(
    ("model", "values", "words"),
    [
        (FitConfig, {"stream": True}, "--stream: expected --samples N beside it, got 0"),
        (
            FitConfig,
            {"stream": True, "samples": 2, "devices": 2},
            "--stream: expected one process, got 2; leave training.devices out",
        ),
        (FitConfig, {"workers": 2, "devices": 2}, "--workers: expected 0 with devices, got 2"),
        (
            FitConfig,
            {"calibration": 18},
            "--calibration: expected 0, or 19 or more for 95 % intervals, got 18",
        ),
        (
            FitConfig,
            {"devices": 2, "data": {"validation": 0.1}},
            "data.validation: expected training.devices = 1 with it, got 2",
        ),
        (
            FitConfig,
            {"jk_dtype": "float32", "method": {"density_fit": False}},
            "--jk-dtype: expected float64 with --no-density-fit, got float32",
        ),
        (
            FitConfig,
            {"method": {"break_symmetry": True}, "model": {"inputs": "geometry"}},
            "--break-symmetry: expected --inputs physics with it, got geometry",
        ),
        (PredictConfig, {"compare_start": True}, "--compare-start: expected --refine TOL with it"),
        (
            PredictConfig,
            {"certificate": False, "cube": ("homo",)},
            "--no-certificate: orbitals for other programs need a Fock build; leave it out",
        ),
        (
            LabelConfig,
            {"model": "m", "init_guess": "atom"},
            "--model and --init-guess exclude each other; got --init-guess atom; give one of them",
        ),
        (
            LabelConfig,
            {"model": "m", "method": {"break_symmetry": True}},
            "--model and --break-symmetry exclude each other",
        ),
        (
            LabelConfig,
            {"smearing": 0.01, "stability": True},
            "--smearing and --stability exclude each other",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_named(model, values, words):
    with pytest.raises(InputError) as info:
        model.parse(values)
    assert str(info.value).startswith(words)
    assert len(str(info.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (FitConfig, {"stream": True, "samples": 1}),
        (FitConfig, {"calibration": 0}),
        (FitConfig, {"calibration": 19}),
        (FitConfig, {"jk_dtype": "float32"}),
        (PredictConfig, {"compare_start": True, "forces": True}),
        (PredictConfig, {"certificate": False, "refine": 1e-5, "molden": "a"}),
        (LabelConfig, {"model": "m", "init_guess": "minao"}),
        (LabelConfig, {"smearing": 0.0, "stability": True}),
    ],
)
def test_settings_that_do_go_together(model, values):
    assert model.parse(values).model_dump().items() >= values.items()


@pytest.mark.parametrize(
    ("values", "unrestricted"),
    [({}, None), ({"unrestricted": True}, True), ({"break_symmetry": True}, True)],
)
def test_the_problem_has_two_spins_where_that_is_asked_for(values, unrestricted):
    config = MethodConfig.parse({"xc": "pbe0", "grid_level": 1, "charge": -1} | values)
    method = config.as_method()
    assert (method.xc, method.grid_level, method.unrestricted) == ("pbe0", 1, unrestricted)
    assert config.state == (-1, 0)
    assert FitConfig(method=config).solved == method
    smeared = LabelConfig(method=config, smearing=0.02).solved
    assert (smeared.smearing, smeared.xc) == (0.02, "pbe0")


@pytest.mark.parametrize(
    ("values", "plain"),
    [({}, False), ({"certificate": False}, True), ({"certificate": False, "forces": True}, False)],
)
def test_a_plain_prediction_makes_no_build(values, plain):
    assert PredictConfig.parse(values).plain is plain
