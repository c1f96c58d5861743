"""Structures of general models: by rules and seeds alone, sensible, and the same every time."""

import importlib
import tomllib
from pathlib import Path

import ase.io
import numpy as np
import pytest

from deeph_zero.settings.config_file import fit_settings, read_config

FOLDER = Path(__file__).parents[1] / "tools" / "pretrain"
pytest.importorskip("rdkit")


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("make_structures")


@pytest.fixture
def recipe():
    return tomllib.loads((FOLDER / "recipe.toml").read_text()) | {"molecules": 12, "dimers": 4}


def test_the_same_recipe_gives_the_same_structures(script, recipe):
    first, second = list(script.structures(recipe)), list(script.structures(recipe))
    other = list(script.structures(recipe | {"seed": 1}))
    assert len(first) == len(second)
    for one, two in zip(first, second, strict=True):
        assert one.info == two.info
        np.testing.assert_array_equal(one.positions, two.positions)
    assert {a.info.get("smiles") for a in first} != {a.info.get("smiles") for a in other}


def test_molecules_are_different_closed_shells_with_atoms_apart(script, recipe):
    found = list(script.molecules(recipe, 3))
    names = [smiles for smiles, _ in found]
    assert len(set(names)) == len(names) > 5
    for smiles, atoms in found:
        assert set(atoms.numbers) <= {1, 6, 7, 8, 9}
        assert atoms.numbers.sum() % 2 == 0
        assert "." not in smiles
        assert script.reached(script.bonded(atoms), 0).all(), "all in one piece"
    for atoms in script.structures(recipe):
        apart = atoms.get_all_distances() + 9 * np.eye(len(atoms))
        assert apart.min() > 0.55


def test_a_stretched_bond_moves_one_side_alone(script, recipe):
    still = recipe | {"push": [0.0, 0.0], "stretch": [1.3, 1.3]}
    ethane = script.embedded("CC", 1)
    moved = script.stretched(ethane, np.random.default_rng(0), still)
    before, after = ethane.get_all_distances(), moved.get_all_distances()
    bonds = np.argwhere(np.triu(script.bonded(ethane)))
    factors = np.array([after[i, j] / before[i, j] for i, j in bonds])
    assert np.sum(np.isclose(factors, 1.3)) == 1
    assert np.sum(np.isclose(factors, 1.0)) == len(bonds) - 1


def test_pairs_are_in_contact(script, recipe):
    water = script.embedded("O", 1)
    still = recipe | {"push": [0.0, 0.0], "contact": [1.0, 1.0]}
    pair = script.dimer(water, water, np.random.default_rng(2), still)
    radii = script.ase.data.vdw_radii[pair.numbers]
    ratio = pair.get_all_distances() / (radii[:, None] + radii)
    assert 1.0 <= ratio[:3, 3:].min() < 1.02


def test_the_command_writes_what_its_recipe_says(script, tmp_path, monkeypatch, capsys):
    text = (FOLDER / "recipe.toml").read_text()
    (tmp_path / "r.toml").write_text(
        text.replace("molecules = 1500", "molecules = 9").replace("dimers = 300", "dimers = 1")
    )
    words = ["--recipe", str(tmp_path / "r.toml"), "-o", str(tmp_path / "some.xyz")]
    monkeypatch.setattr("sys.argv", ["make_structures.py", *words])
    script.main()
    frames = ase.io.read(tmp_path / "some.xyz", ":")
    assert f"{len(frames)} structures" in capsys.readouterr().out
    assert {"shaken", "dimer"} <= {a.info["kind"] for a in frames}
    assert not list(tmp_path.glob("*.part"))


def test_the_training_is_one_that_fit_takes():
    config = fit_settings(read_config(FOLDER / "organic-pbe.toml"))
    assert config.model.inputs == "geometry"
    assert config.loss == "supervised"
