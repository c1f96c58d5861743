"""Settings: defaults of the design, ranges, and errors that name the option."""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deeph_zero.errors import InputError
from deeph_zero.host import runtime
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
from deeph_zero.settings.value_types import parse_duration


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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), (90, 90), (0.5, 0.5), ("45s", 45), ("10m", 600), ("1h", 3600), ("1.5h", 5400),
     ("2d", 172800), ("1H 30M", None), ("1h30m", 5400), (" 10m ", 600)],
)  # fmt: skip
def test_durations(text, seconds):
    if seconds is None:
        with pytest.raises(ValueError, match="positive time"):
            parse_duration(text)
    else:
        assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "m", "10x", "-5", "nan", "inf", "0", "0m", True, None, "1e999"]
)
def test_no_durations(text):
    with pytest.raises(ValueError, match="positive time"):
        parse_duration(text)


def outcome(function, argument) -> object:
    """The result, or the one line of the error."""
    try:
        return function(argument)
    except ValueError as error:
        return str(error)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=8))
def test_any_text_is_a_duration_or_an_error(text):
    result = outcome(parse_duration, text)
    assert "positive time" in result if isinstance(result, str) else result > 0


@given(st.sampled_from(sorted(FitConfig.model_fields)), st.none() | st.text() | st.floats())
@settings(max_examples=50, deadline=None)
def test_any_value_is_accepted_or_refused_in_one_line(name, value):
    result = outcome(FitConfig.parse, {name: value})
    if isinstance(result, str):
        assert option_name(name) in result
        assert len(result.splitlines()) == 1
    else:
        assert isinstance(result, FitConfig)


@pytest.fixture
def one_thread():
    threads, environ = torch.get_num_threads(), dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environ)
    runtime.set_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_one_setting_governs_all_threads():
    from pyscf import lib

    assert runtime.setup(RuntimeConfig(device="cpu", threads=1)).threads == 1
    assert (torch.get_num_threads(), lib.num_threads()) == (1, 1)
    assert runtime.setup(RuntimeConfig(device="cpu", threads=2)).threads == 2
    assert (torch.get_num_threads(), lib.num_threads()) == (2, 2)
    assert os.environ["OMP_NUM_THREADS"] == "2"
    os.environ["OMP_NUM_THREADS"] = "1"
    assert runtime.default_threads() == 1
    os.environ["OMP_NUM_THREADS"] = "many"
    assert runtime.default_threads() >= 1


@pytest.mark.usefixtures("one_thread")
def test_same_seed_same_numbers():
    runtime.setup(RuntimeConfig(device="cpu", threads=1, seed=5))
    first = torch.rand(3)
    runtime.setup(RuntimeConfig(device="cpu", threads=1, seed=5))
    assert torch.equal(first, torch.rand(3))
    runtime.setup(RuntimeConfig(device="cpu", threads=1, seed=6))
    assert not torch.equal(first, torch.rand(3))


def test_devices_without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.resolve_device("auto") == torch.device("cpu")
    assert runtime.resolve_device("cpu") == torch.device("cpu")
    for name in ("cuda", "cuda:1"):
        with pytest.raises(InputError, match="torch sees no CUDA device; use device='cpu'"):
            runtime.resolve_device(name)
    for built_for, cure in ((None, "a build of torch with CUDA"), ("13.0", "a driver that is new")):
        monkeypatch.setattr(torch.version, "cuda", built_for)
        with pytest.raises(InputError, match=cure):
            runtime.resolve_device("cuda")
    with pytest.raises(InputError, match="expected auto, cpu, cuda"):
        runtime.resolve_device("cpux")


def test_devices_with_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert runtime.resolve_device("auto").type == "cuda"
    assert runtime.resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(InputError, match="use cuda:0 to cuda:1"):
        runtime.resolve_device("cuda:2")


def test_the_clock_starts_with_the_command(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(runtime.time, "monotonic", lambda: now[0])
    late = runtime.Deadline.after(10.0, started=89.0)
    assert (late.expired(), late.remaining()) == (True, 0.0)
    fresh = runtime.Deadline.after(10.0)
    now[0] += 0.5
    assert (fresh.expired(), fresh.remaining()) == (False, 9.5)
    assert runtime.Deadline.after(None).remaining() == float("inf")
    assert not runtime.Deadline.after(None).expired()
