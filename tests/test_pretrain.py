"""General models: structures by rules and seeds alone, and what makes a run a model of them."""

import importlib
import json
import tomllib
from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest

from deeph_zero.data.structures import read_structures
from deeph_zero.errors import InputError
from deeph_zero.host.reporting import SilentReporter
from deeph_zero.integrals.mole import build_mole
from deeph_zero.jobs.label import run_label
from deeph_zero.kohnsham import KohnSham
from deeph_zero.model import load
from deeph_zero.model_files.folder import save_model
from deeph_zero.model_files.meta import model_meta
from deeph_zero.nn.network import FockNetwork
from deeph_zero.nn.spec import default_spec
from deeph_zero.predict import intervals
from deeph_zero.prepared.molecule import basis_layout
from deeph_zero.settings.config import LabelConfig, MethodConfig
from deeph_zero.settings.config_file import fit_settings, read_config

FOLDER = Path(__file__).parents[1] / "tools" / "pretrain"
pytest.importorskip("rdkit")


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.fixture
def script():
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


def test_a_recipe_names_molecules_that_it_must_not_make(script, recipe):
    names = [smiles for smiles, _ in script.molecules(recipe, 3)]
    written = script.Chem.MolToSmiles(script.Chem.MolFromSmiles(names[1]), kekuleSmiles=True)
    fewer = [smiles for smiles, _ in script.molecules(recipe | {"without": [written]}, 3)]
    assert [smiles for smiles in names if smiles in fewer] == [names[0], *names[2:]]
    assert names[1] not in fewer


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


@pytest.mark.parametrize("name", ["organic-pbe", "organic-b3lyp"])
def test_the_training_is_one_that_fit_takes(name):
    config = fit_settings(read_config(FOLDER / f"{name}.toml"))
    assert config.model.inputs == "geometry"
    assert config.loss == "supervised"


TINY = {"basis": "sto-3g", "grid_level": 0}


def written(folder, count):
    """Hydrogen molecules of different lengths."""
    frames = [ase.Atoms("H2", [[0, 0, 0.1], [0, 0.02 * k, 0.75 + 0.01 * k]]) for k in range(count)]
    ase.io.write(folder / "h.xyz", frames, format="extxyz")
    molecules, bad = read_structures([str(folder / "h.xyz")])
    assert not bad
    return molecules


def test_structures_with_labels_are_kept(tmp_path, monkeypatch):
    labelled = importlib.import_module("labelled")
    molecules = written(tmp_path, 3)
    config = LabelConfig.parse({"method": TINY, "runtime": {"device": "cpu", "threads": 1}})
    run_label(config, [molecules[k] for k in (2, 0)], [], tmp_path / "l.h5",
              reporter=SilentReporter(), command="deeph-zero label")  # fmt: skip
    assert labelled.write(tmp_path / "h.xyz", str(tmp_path / "l.h5"), tmp_path / "o.xyz") == (2, 3)
    kept, _ = read_structures([str(tmp_path / "o.xyz")])
    for one, k in zip(kept, (0, 2), strict=True):
        np.testing.assert_array_equal(one.coords, molecules[k].coords)
    ase.io.write(tmp_path / "other.xyz", ase.Atoms("H2", [[0, 0, 0], [0, 0, 1.0]]))
    words = [str(tmp_path / "other.xyz"), str(tmp_path / "l.h5"), "-o", str(tmp_path / "no.xyz")]
    monkeypatch.setattr("sys.argv", ["labelled.py", *words])
    assert labelled.main() == 2
    assert not (tmp_path / "no.xyz").exists()


def test_structures_of_an_evaluation_are_found_beside_it(tmp_path, capsys):
    """They are named as on the command line of the evaluation; none at all is said in one line."""
    pack = importlib.import_module("pack")
    run, facts, evaluation = tmp_path / "run", tmp_path / "facts.toml", tmp_path / "eval.json"
    run.mkdir()
    (run / pack.FILES[0]).write_bytes(b"no weights")
    facts.write_text("")
    row = {"file": "set/far.xyz", "frame": 0, "fock": {"mae": 1e-3}, "energy_error": 1e-5}
    levels = dict.fromkeys(("mae", "homo_mae", "lumo_mae", "gap_mae"), 1e-3)
    row |= {"rebuilt": levels, "dipole_error": 0.1}
    evaluation.write_text(json.dumps({"structures": [row]}))
    call = [str(run), "--name", "n", "--facts", str(facts), "--evaluated", f"far={evaluation}"]
    wanted = f"error: {evaluation}: expected its structures here or beside it, got no set/far.xyz"
    assert pack.main(call) == 2
    assert wanted in capsys.readouterr().err.splitlines()[-1]
    (tmp_path / "set").mkdir()
    ase.io.write(tmp_path / "set" / "far.xyz", ase.Atoms("OH2", [[0, 0, 0], [0, 0, 1], [1, 0, 0]]))
    assert pack.main(call) == 2
    assert "expected its structures" not in capsys.readouterr().err


def test_a_model_gets_intervals_from_other_structures(tmp_path, monkeypatch):
    calibrate = importlib.import_module("calibrate")
    molecules = written(tmp_path, 3)
    mol = build_mole(molecules[0], basis="sto-3g")
    config = MethodConfig(**TINY)
    network = FockNetwork(default_spec(basis_layout([mol]), "tiny", inputs="geometry"))
    info = KohnSham.of_method(mol, config.as_method(), builds=False).info
    save_model(tmp_path / "run", network, model_meta(config, info, network.spec, molecules))
    assert load(tmp_path / "run").calibration is None
    kept, given = tmp_path / "samples.json", [str(tmp_path / "h.xyz")]
    assert calibrate.calibrated(tmp_path / "run", given, 0.75, samples=kept) == 3
    model = load(tmp_path / "run")
    assert model.calibration is not None
    assert (model.calibration.n, model.calibration.coverage) == (3, 0.75)
    found = model.predict(molecules[1])
    exact = KohnSham.of_method(build_mole(molecules[1], basis="sto-3g"), config.as_method()).scf()
    low, high = found.intervals["energy"]
    assert low - 1e-9 <= exact.energy <= high + 1e-9
    # what is kept is not computed again, and molecules of a benchmark count as others do
    monkeypatch.setattr(calibrate.Model, "predict", None)
    rows = [{"sample": one} for one in json.loads(kept.read_text()).values()] + [{}]
    (tmp_path / "rows.json").write_text(json.dumps({"structures": rows}))
    more = [(tmp_path / "rows.json", 2, 3)]
    again = {"samples": kept, "measured": more}
    assert calibrate.calibrated(tmp_path / "run", given, 0.75, **again) == 5
    before, after = model.calibration, load(tmp_path / "run").calibration
    assert (after.gradient, after.states) == (before.gradient, before.states)
    for last, message in ((5, "expected molecules of 1 to 4, got 2 5"), (4, "molecule 4 has no")):
        wrong = [(tmp_path / "rows.json", 2, last)]
        with pytest.raises(InputError, match=message):
            calibrate.calibrated(tmp_path / "run", [], 0.75, measured=wrong)


def test_a_card_says_whether_intervals_held_what_did_not_calibrate(tmp_path):
    pack = importlib.import_module("pack")
    one = {"energy_error": 4e-6, "gradient": 1e-5, "state": [0, 0], "atoms": None}
    samples = [
        one | {"errors": {"energy": size, "homo": size, "lumo": size, "gap": size, "dipole": size}}
        for size in (1e-8, 2e-8, 4e-8, 1e-5)
    ]
    ones = [intervals.Sample(**{**sample, "state": (0, 0)}) for sample in samples[:3]]
    made = intervals.calibrated(ones, 0.75)
    energies = [pack.covered(sample, made)["coverage"] for sample in samples]
    assert energies == [1.0, 1.0, 1.0, 0.0]
    assert pack.covered(samples[3], made)["coverage_gap"] == 0.0
    # of a file, those that calibrated have no say, and what was there before is not kept
    row = {"atoms": 3, "elements": ["H"], "errors": {"energy": -1e-3, "coverage": 1.0}}
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"structures": [row | {"sample": s} for s in samples] + [row]}))
    rows = [errors for _, (_, _, errors) in pack._measured([f"set={path}"], made, [(path, 1, 2)])]
    assert [errors.get("coverage") for errors in rows] == [None, None, 1.0, 0.0, 1.0]
    assert {errors["energy"] for errors in rows} == {1e-3}
