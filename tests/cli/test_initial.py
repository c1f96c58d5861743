"""What training starts from: a model's method taken over, what was stated kept, and said."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from deeph_zero.cli.initial import (
    Known,
    _of_crystals,
    check_kind,
    starting_from,
    suggest,
    with_elements,
)
from deeph_zero.data.structures import read_structures
from deeph_zero.errors import InputError
from deeph_zero.settings.config import FitConfig, MethodConfig
from deeph_zero.settings.crystal_config import SmearedCrystalConfig

WATER = frozenset({1, 8})


def start(said, init="model", **sections):
    return starting_from(FitConfig.parse({"init": init} | sections), said)


@pytest.mark.usefixtures("folder")
def test_without_a_model_nothing_changes(said):
    config = FitConfig()
    assert starting_from(config, said) == (config, None)
    assert with_elements(config, None, []) == config
    check_kind(None, None, crystals=True)
    assert said.messages == []


@pytest.mark.usefixtures("folder")
def test_what_is_not_stated_is_the_models(said):
    config, known = start(said)
    assert known == Known(crystals=False, elements=WATER)
    assert (config.method.basis, config.method.xc, config.method.grid_level) == ("sto-3g", "pbe", 0)
    assert config.closed_form is None
    assert said.messages == ["taken from --init model: --basis sto-3g, --grid-level 0"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("stated", "closed_form", "words"),
    [
        ({"xc": "PBE,PBE", "grid_level": 0}, None, None),
        ({"grid_level": 1}, None, "trained with --grid-level 0, this run has --grid-level 1 as"),
        ({"xc": "b3lyp"}, True, "trained with --xc pbe, this run has --xc b3lyp as stated: the"),
        (
            {"density_fit": False, "grid_level": 0},
            True,
            "trained with --density-fit, this run has --no-density-fit as stated",
        ),
    ],
)
def test_what_is_stated_stands_and_a_difference_is_said(said, stated, closed_form, words):
    config, _ = start(said, method={"basis": "STO-3G"} | stated)
    for name, value in stated.items():
        assert getattr(config.method, name) == value
    assert config.method.basis == "STO-3G"
    assert config.closed_form is closed_form
    lines = [line for line in said.messages if "as stated" in line]
    assert len(lines) == (words is not None)
    assert words is None or words in lines[0]
    kept, _ = start(said, method={"basis": "sto-3g"} | stated, closed_form=False)
    assert kept.closed_form is False, "as stated"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"method": {"basis": "6-31g"}}, "--init model: expected a model for basis '6-31g', got"),
        ({"init": "none"}, "--init none: expected a model"),
        ({"init": "good.xyz"}, "--init good.xyz: "),
    ],
)
def test_what_is_no_start_names_the_model(said, sections, words):
    with pytest.raises(InputError, match=f"^{re.escape(words)}"):
        start(said, **sections)


def test_a_model_of_geometries_keeps_their_symmetry(said, folder):
    path = folder / "model/model.json"
    document = json.loads(path.read_text())
    document["network"]["inputs"] = "geometry"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"--break-symmetry|--init model"):
        start(said, method={"break_symmetry": True})


@pytest.mark.usefixtures("folder")
def test_an_element_that_is_new_asks_for_a_closed_form():
    Path("sulfide.xyz").write_text(Path("good.xyz").read_text().replace("O ", "S "))
    molecules, _ = read_structures(["good.xyz", "sulfide.xyz"])
    known, crystals = Known(False, WATER), Known(True)
    config = FitConfig(init="model")
    assert with_elements(config, known, molecules[:1]) == config
    assert with_elements(config, known, molecules).closed_form is True
    assert with_elements(config, crystals, molecules) == config
    stated = FitConfig(init="model", closed_form=False)
    assert with_elements(stated, known, molecules).closed_form is False


@pytest.mark.usefixtures("folder")
def test_a_model_is_one_of_what_is_trained_on():
    check_kind("model", Known(False, WATER), crystals=False)
    with pytest.raises(InputError, match=r"^--init model: .*crystals"):
        check_kind("model", Known(False, WATER), crystals=True)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "sections",
    [
        {"init": "model"},
        {"method": {"break_symmetry": True}},
        {"method": {"unrestricted": True}},
        {"model": {"inputs": "physics"}},
        {"method": {"basis": "sto-6g"}},
    ],
)
def test_no_tip_where_it_would_be_none(said, sections):
    molecules, _ = read_structures(["good.xyz"])
    suggest(FitConfig.parse(sections), molecules, said)
    assert said.messages == []


def test_what_is_taken_from_a_model_of_crystals_is_named_as_options(said):
    own = SimpleNamespace(
        method=MethodConfig(basis="gth-szv", xc="pbe0"),
        crystal=SmearedCrystalConfig(kmesh=(4, 4, 1), ke_cutoff=60.0),
    )
    config = FitConfig.parse({"init": "run", "method": {"xc": "pbe0"}})
    found = _of_crystals(config, SimpleNamespace(settings=lambda: own), said)
    assert found.crystal.kmesh == (4, 4, 1)
    prefix = "taken from --init run: "
    assert said.messages == [f"{prefix}--basis gth-szv", f"{prefix}--kmesh 4 4 1, --ke-cutoff 60.0"]
