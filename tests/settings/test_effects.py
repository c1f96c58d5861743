"""Settings that others leave without effect: refused where they were asked for, and only there."""

import pytest

from deeph_zero.errors import InputError
from deeph_zero.settings.config import FitConfig, LabelConfig
from deeph_zero.settings.config_file import fit_settings, read_config, sections_of, to_toml
from deeph_zero.settings.effects import idle_setting

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


@pytest.mark.parametrize("name", IDLE)
def test_what_has_no_effect_is_refused(name):
    idle, cure = IDLE[name]
    with pytest.raises(InputError, match=f"^--{name}: expected .*; .*(leave|say|add)"):
        FitConfig.parse(idle)
    FitConfig.parse(idle | cure)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"displace": 0.1, "sampling": "normal-modes", "samples": 2}, "displace: expected --sampl"),
        ({"temperature": 200, "samples": 2}, "temperature: expected --sampling normal-modes"),
        ({"displace": 0.1, "samples": 0}, "displace: expected --samples N"),
    ],
)
def test_each_kind_of_copies_has_its_own_width(values, words):
    with pytest.raises(InputError, match=words):
        FitConfig.parse(values)


def test_a_default_is_asked_for_on_the_command_line_only():
    config = FitConfig.parse({"temperature": 300.0, "samples": 2})
    assert idle_setting(config, stated=False) is None
    said = idle_setting(config, stated=True)
    assert said is not None
    assert said.startswith("--temperature: expected --sampling normal-modes")


def test_the_settings_of_a_run_can_be_read_again(tmp_path):
    """They state every setting, also those that have no effect."""
    path = tmp_path / "config.toml"
    path.write_text(to_toml(sections_of(FitConfig(init="organic-pbe", loss="energy"))))
    assert fit_settings(read_config(path)).loss == "energy"


def test_labels_have_no_fitting_basis_either_without_fitting():
    with pytest.raises(InputError, match=r"^--auxbasis: expected --density-fit with it"):
        LabelConfig.parse({"method": {"auxbasis": "weigend", "density_fit": False}})
