"""Settings that others leave without effect: said where they were asked for, and only there."""

import re

import pytest

from deeph_zero.settings.config import FitConfig, PredictConfig
from deeph_zero.settings.config_file import fit_settings, read_config, sections_of, to_toml
from deeph_zero.settings.effects import idle_option, unused_in_prediction, unused_settings

IDLE = {
    "displace": ({"displace": 0.1}, {"samples": 2}),
    "sampling": ({"sampling": "normal-modes"}, {"samples": 2}),
    "temperature": ({"temperature": 77.0}, {"samples": 2, "sampling": "normal-modes"}),
    "strain": ({"crystal": {"strain": 0.02}}, {"samples": 2}),
    "supercell": ({"crystal": {"supercell": (2, 1, 1)}}, {"samples": 2}),
    "stream-visits": ({"stream_visits": 3}, {"samples": 2, "stream": True}),
    "supervised-blocks": ({"supervised_blocks": (1, 1, 1)}, {"loss": "energy,supervised"}),
    "supervised-orbital-energy": ({"supervised_orbital_energy": 1}, {"loss": "supervised"}),
    "budget": ({"budget": "full", "loss": "energy"}, {"loss": "energy,fixed-point"}),
    "closed-form": ({"closed_form": True, "loss": "energy"}, {"loss": "auto"}),
    "size": ({"model": {"size": "tiny"}, "init": "m"}, {"init": None}),
    "elements": ({"model": {"elements": ("Cl",)}, "init": "m"}, {"init": None}),
    "auxbasis": (
        {"method": {"auxbasis": "weigend", "density_fit": False}},
        {"method": {"auxbasis": "weigend"}},
    ),
}
"""Settings without effect, and what gives them one."""


COPIES = {"displace", "sampling", "temperature", "strain", "supercell"}
"""What says how copies are made; a command refuses it where none are."""


@pytest.mark.parametrize("name", IDLE)
def test_what_has_no_effect_is_said(name):
    idle, cure = IDLE[name]
    config = FitConfig.parse(idle)
    said = unused_settings(config, stated=False)
    assert re.match(f"^--{name}: expected .*; it has no effect$", said[0])
    refused = idle_option(config)
    assert (refused is not None) == (name in COPIES)
    if refused is not None:
        assert refused == f"--{name}: expected --samples N beside it; say how many geometries"
    assert unused_settings(FitConfig.parse(idle | cure), stated=False) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"displace": 0.1, "sampling": "normal-modes", "samples": 2}, "displace: expected --sampl"),
        ({"temperature": 200, "samples": 2}, "temperature: expected --sampling normal-modes"),
    ],
)
def test_each_kind_of_copies_has_its_own_width(values, words):
    (said,) = unused_settings(FitConfig.parse(values), stated=False)
    assert words in said


def test_no_copies_are_none():
    refused = idle_option(FitConfig.parse({"displace": 0.1, "samples": 0}))
    assert refused is not None
    assert refused.startswith("--displace: expected --samples N")


def test_a_default_is_asked_for_on_the_command_line_only():
    config = FitConfig.parse({"temperature": 300.0, "samples": 2})
    assert idle_option(config) is None
    assert unused_settings(config, stated=False) == []
    (said,) = unused_settings(config, stated=True)
    assert said.startswith("--temperature: expected --sampling normal-modes")


def test_the_settings_of_a_run_can_be_read_again(tmp_path):
    """They state every setting, also those that have no effect."""
    path = tmp_path / "config.toml"
    path.write_text(to_toml(sections_of(FitConfig(init="organic-pbe", loss="energy"))))
    config = fit_settings(read_config(path))
    assert config.loss == "energy"
    assert unused_settings(config, stated=False) == []


@pytest.mark.parametrize(
    ("values", "got"),
    [
        ({"certificate": False}, "--no-certificate"),
        ({"coupled": False}, "--cheap-estimate"),
        ({}, None),
        ({"certificate": False, "refine": 1e-5}, None),
    ],
)
def test_one_grid_needs_something_to_iterate(values, got):
    said = unused_in_prediction(PredictConfig.parse(values | {"two_grids": False}))
    words = f"--one-grid: expected something to iterate, got {got} without --refine TOL; it has no"
    assert [line.startswith(words) for line in said] == [True] * (got is not None)
    assert unused_in_prediction(PredictConfig.parse(values)) == []
